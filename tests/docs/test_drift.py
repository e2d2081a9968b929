"""docs/drift.md names measures, fields and tests that there are, and its example is a setting."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import yaml

from quarterturn.worker.contract.settings import parse_settings
from quarterturn.worker.contract.usual import Measure
from quarterturn.worker.messages.alarms import Drift
from quarterturn.worker.settings.worker import CameraSettings, DriftSettings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/drift.md").read_text(encoding="utf-8")


def names(head: str) -> list[str]:
    """Those in the first cells of the table that begins with the line `head`."""
    rows = TEXT.split(f"\n{head}\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in rows))


def test_the_tables_are_those_of_the_models() -> None:
    assert sorted(names("| measure | what it is | what it finds |")) == sorted(get_args(Measure))
    fields = set(Drift.model_fields) - {*Drift.__mro__[1].model_fields} | {"state"}  # type: ignore[attr-defined]
    assert set(names("| field | says |")) == fields


def test_the_example_says_the_defaults() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
    camera = parse_settings(yaml.safe_load(example)["cameras"]["top-01"], CameraSettings, "drift.md")
    assert camera.drift == DriftSettings()


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(?:([\w/]+\.py)|…)::(\w+)`", TEXT)
    assert len(named) >= 8
    file = ""
    for own, test in named:
        file = own or file
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{file}::{test}"
