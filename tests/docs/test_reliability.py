"""docs/reliability.md names metrics, notices and reasons, which must be those that there are."""

from __future__ import annotations

from typing import get_args

from quarterturn.worker.contract.errors import Reason
from quarterturn.worker.messages.notices import Notice
from quarterturn.worker.runtime.health import Health
from tests.docs.pages import names, page

TEXT = page("reliability.md")


def test_the_metrics_are_those_of_the_table() -> None:
    told = names(TEXT, "| metric | labels | what it is |")
    health = Health()
    health.metrics.serves("b", "e")
    endings = {"counter": "_total", "info": "_info"}
    there = [metric.name + endings.get(metric.type, "") for metric in health.registry.collect()]
    assert sorted(told) == sorted(there)


def test_the_notices_are_those_of_the_table() -> None:
    told = names(TEXT, "| kind of notice | the frame |")
    assert sorted(told) == sorted(get_args(Notice))


def test_the_reasons_are_those_of_the_table() -> None:
    kafka = page("kafka.md")
    told = names(kafka, "| reason | the frame |")
    assert sorted(told) == sorted(get_args(Reason))
