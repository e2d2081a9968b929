"""docs/alerts.md names settings, reasons and tests that there are, and its examples are settings."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import yaml

from quarterturn.worker.contract.settings import parse_settings
from quarterturn.worker.contract.silence import Silence
from quarterturn.worker.messages.events import AlarmState, Held
from quarterturn.worker.settings.worker import AlertSettings, CameraSettings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/alerts.md").read_text(encoding="utf-8")


def names(head: str) -> list[str]:
    """Those in the first cells of the table that begins with the line `head`."""
    rows = TEXT.split(f"\n{head}\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in rows))


def test_the_tables_are_those_of_the_models() -> None:
    assert names("| setting | default | what it does | example |") == list(AlertSettings.model_fields)
    assert names("| why | the alert |") == list(get_args(Held))
    assert names("| `state` | comes with | says |") == list(get_args(AlarmState))


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) >= 5
    for file, test in named:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{file}::{test}"


def test_the_examples_are_settings() -> None:
    camera, silences = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL))
    assert parse_settings(camera["cameras"]["top-01"], CameraSettings, "docs/alerts.md").alerts.at_least == 2
    (silence,) = silences["silences"]
    assert parse_settings(silence, Silence, "docs/alerts.md").product == "bracket"
