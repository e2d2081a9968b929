"""Faults of the worker's settings that its models word themselves."""

from __future__ import annotations

from typing import Any

import pytest

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.settings import parse_settings
from quarterturn.worker.settings.worker import WorkerSettings

WORKER: dict[str, Any] = {
    "line": "line-1",
    "engine": {"path": "engine"},
    "bank": {"file": {"path": "banks"}},
    "transport": {"kafka": {}},
}


def fault(**changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_settings(WORKER | changes, WorkerSettings, "worker.yaml")
    return str(caught.value).removeprefix("worker.yaml: ")


@pytest.mark.parametrize("name", ["a b", "-a", ".a", "a/b", "a\n", "grün"])
def test_a_name_says_which_characters_it_may_hold(name: str) -> None:
    allowed = "may hold letters (A to Z), digits, '.', '_' and '-', and begins with a letter or a digit"
    assert fault(line=name) == f"line = {name!r}: {allowed}"


@pytest.mark.parametrize("name", ["a", "7", "Line-1.b_c", "x" * 200])
def test_a_name_as_it_should_be(name: str) -> None:
    assert parse_settings(WORKER | {"line": name}, WorkerSettings, "worker.yaml").line == name


def test_a_mechanism_keeps_its_capitals() -> None:
    sasl = {"mechanism": "PLAIN"}
    assert fault(transport={"kafka": {"tls": {}, "sasl": sasl}}) == (
        "transport.kafka.sasl: PLAIN takes 'username' and 'password'"
    )


def test_cameras_of_a_part_are_a_list() -> None:
    assert fault(parts={"cameras": "top-01"}) == "parts.cameras = 'top-01': must be a list, such as [top-01]"
    assert fault(parts={"cameras": [1]}) == "parts.cameras.0 = 1: must be text; put it in quotes"
