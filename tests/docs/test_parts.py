"""docs/parts.md names metrics, reasons and tests that there are, and its examples are as they should be."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import get_args

import yaml

from quarterturn.worker.contract.settings import parse_settings
from quarterturn.worker.messages.parts import PartData, PartVerdict
from quarterturn.worker.parts.seen import Ignored
from quarterturn.worker.runtime.part_metrics import PartMetrics
from quarterturn.worker.settings.parts import PartsSettings
from quarterturn.worker.transport.base import Standing
from tests.docs.test_reliability import column

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/parts.md").read_text(encoding="utf-8")
OF_PYTHON = ("python_", "process_")


def names(head: str) -> list[str]:
    return re.findall(r"`(\w+)`", "".join(column(TEXT, head)))


def test_the_tables_are_those_of_the_code() -> None:
    assert names("| `verdict` | the part |") == list(get_args(PartVerdict))
    assert names("| why | the record |") == list(get_args(Ignored))
    metrics = PartMetrics(Standing, lambda: True, lambda: 0)
    endings = {"counter": "_total", "info": "_info"}
    there = [metric.name + endings.get(metric.type, "") for metric in metrics.registry.collect()]
    told = names("| metric | labels | what it is |")
    assert sorted(told) == sorted(name for name in there if not name.startswith(OF_PYTHON))


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) >= 5
    for file, test in named:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{file}::{test}"


def test_the_examples_are_settings_and_a_result() -> None:
    (settings,) = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL))
    assert parse_settings(settings["parts"], PartsSettings, "docs/parts.md").window_s == 5
    (result,) = re.findall(r"```json\n(.*?)```", TEXT, flags=re.DOTALL)
    part = PartData.model_validate_json(result)
    assert json.loads(part.model_dump_json(by_alias=True)) == json.loads(result), "every field, in order"
