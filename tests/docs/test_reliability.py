"""docs/reliability.md names tests, which must exist, and metrics, which must be those that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

from quarterturn.worker.contract.errors import Reason
from quarterturn.worker.messages.notices import Notice
from quarterturn.worker.runtime.health import Health

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")


def column(text: str, head: str) -> list[str]:
    """The first cells of the table that begins with the line `head`."""
    rows = text.split(f"\n{head}\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return [row.split("|")[1] for row in rows]


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) > 20
    for file, test in named:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert test in found, f"{file}::{test}"


def test_the_metrics_are_those_of_the_table() -> None:
    told = re.findall(r"`(\w+)`", "".join(column(TEXT, "| metric | labels | what it is |")))
    health = Health()
    health.metrics.serves("b", "e")
    endings = {"counter": "_total", "info": "_info"}
    there = [metric.name + endings.get(metric.type, "") for metric in health.registry.collect()]
    assert sorted(told) == sorted(there)


def test_the_notices_are_those_of_the_table() -> None:
    told = re.findall(r"`(\w+)`", "".join(column(TEXT, "| kind of notice | the frame |")))
    assert sorted(told) == sorted(get_args(Notice))


def test_the_reasons_are_those_of_the_table() -> None:
    kafka = (ROOT / "docs/kafka.md").read_text(encoding="utf-8")
    told = re.findall(r"`(\w+)`", "".join(column(kafka, "| reason | the frame |")))
    assert sorted(told) == sorted(get_args(Reason))
