"""docs/parts.md names metrics and reasons that there are, and its examples are as they should be."""

from __future__ import annotations

import json
import re
from typing import get_args

import yaml

from quarterturn.worker.contract.settings import parse_settings
from quarterturn.worker.messages.parts import PartData, PartVerdict
from quarterturn.worker.parts.seen import Ignored
from quarterturn.worker.runtime.part_metrics import PartMetrics
from quarterturn.worker.settings.parts import PartsSettings
from quarterturn.worker.transport.base import Standing
from tests.docs.pages import names, page

TEXT = page("parts.md")
OF_PYTHON = ("python_", "process_")


def test_the_tables_are_those_of_the_code() -> None:
    assert names(TEXT, "| `verdict` | the part |") == list(get_args(PartVerdict))
    assert names(TEXT, "| why | the record |") == list(get_args(Ignored))
    metrics = PartMetrics(Standing, lambda: True, lambda: 0)
    endings = {"counter": "_total", "info": "_info"}
    there = [metric.name + endings.get(metric.type, "") for metric in metrics.registry.collect()]
    told = names(TEXT, "| metric | labels | what it is |")
    assert sorted(told) == sorted(name for name in there if not name.startswith(OF_PYTHON))


def test_the_examples_are_settings_and_a_result() -> None:
    (settings,) = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL))
    assert parse_settings(settings["parts"], PartsSettings, "docs/parts.md").window_s == 5
    (result,) = re.findall(r"```json\n(.*?)```", TEXT, flags=re.DOTALL)
    part = PartData.model_validate_json(result)
    assert json.loads(part.model_dump_json(by_alias=True)) == json.loads(result), "every field, in order"
