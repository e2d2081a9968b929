"""The files that ship and docs/configuration.md say what the models say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.configuration import FILES, PAGE, anchor, page
from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.settings import load_settings, parse_settings

ROOT = Path(__file__).parents[2]

# What has no default, because a plant must say it, or choose one of two. Everything else in a file is a default.
EXAMPLES = {
    "train.yaml": {"data", "data.path"},
    "build.yaml": set(),
    "bank.yaml": {"data", "engine", "engine.path"},
    "worker.yaml": {"line", "engine", "engine.path", "bank", "bank.redis", "transport", "transport.kafka"},
    "demo.yaml": {"train", "train.data", "train.data.path", "bank", "bank.data", "bank.engine", "bank.engine.path"},
}


def document_of(file: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "configs" / file).read_text(encoding="utf-8"))
    return found


def paths(document: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in document.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from paths(value, f"{prefix}{key}.")


def without(document: dict[str, Any], path: str) -> dict[str, Any]:
    left = deepcopy(document)
    *parents, leaf = path.split(".")
    section = left
    for parent in parents:
        section = section[parent]
    del section[leaf]
    return left


@pytest.mark.parametrize("file", FILES)
def test_a_line_that_is_left_out_changes_nothing(file: str) -> None:
    model, _ = FILES[file]
    document = document_of(file)
    shipped = parse_settings(document, model, file)
    needed = set()
    for path in paths(document):
        try:
            left = parse_settings(without(document, path), model, file)
        except ConfigError:
            needed.add(path)
        else:
            assert left == shipped, f"{file}: {path} is not the default"
    assert needed == EXAMPLES[file]


@pytest.mark.parametrize("file", ["train.yaml", "build.yaml", "bank.yaml"])
def test_a_file_says_all_settings_in_their_order(file: str) -> None:
    """But for those of the worker, where one is chosen of two, and of the demo, which says what differs."""
    document = document_of(file)
    assert list(paths(document)) == list(paths(parse_settings(document, FILES[file][0], file).model_dump(mode="json")))


def test_the_page_is_that_of_the_models() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python docs/configuration.py"


def test_every_link_of_the_page_leads_somewhere() -> None:
    anchors = {anchor(heading) for heading in re.findall("^#+ (.*)$", page(), flags=re.MULTILINE)}
    links = set(re.findall(r"\(#([^)]*)\)", page()))
    assert len(links) > 20
    assert links <= anchors
    for link in re.findall(r"\]\(([^#)]+)\)", page()):
        assert (PAGE.parent / link).exists(), link


def test_every_setting_says_what_it_is_for() -> None:
    """But where the sentence above the table does."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", page(), flags=re.MULTILINE)
    assert len(rows) > 100
    assert {key for key, about in rows if not about} == {"x", "y", "width", "height", "layers", "halved", "stride"}


@pytest.mark.parametrize("file", FILES)
def test_variables_for_other_commands_are_left_alone(file: str) -> None:
    """Unless the command has a setting of that name, too."""
    model, _ = FILES[file]
    others = {
        path for other in FILES for path in paths(document_of(other)) if path.split(".")[0] not in model.model_fields
    }
    assert others
    environment = {f"QUARTERTURN_{path.upper().replace('.', '__')}": "[" for path in others}
    config = ROOT / "configs" / file
    assert load_settings(config, model, environment=environment) == load_settings(config, model)
