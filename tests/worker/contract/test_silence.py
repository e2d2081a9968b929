from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
import yaml

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.settings import parse_settings
from quarterturn.worker.contract.silence import Silence


def silence(text: str) -> Silence:
    return parse_settings(yaml.safe_load(text), Silence, "worker.yaml")


@pytest.mark.parametrize(
    "starts",
    [
        "2026-01-02T14:00:00Z",
        "2026-01-02T15:00:00+01:00",
        "2026-01-02 14:00:00",  # YAML reads these three by itself,
        "2026-01-02T14:00Z",  # and leaves these as text
        "20260102T140000Z",
        "'2026-01-02T14:00:00.000Z'",
    ],
)
def test_times_are_read_as_everywhere(starts: str) -> None:
    found = silence(f"{{camera: top-01, starts: {starts}, ends: 2026-01-02T16:00:00Z, reason: lamp}}")
    assert found.starts == datetime(2026, 1, 2, 14, tzinfo=timezone.utc)
    assert Silence.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{starts: 2026-01-02T14:00Z, ends: 2026-01-02T16:00Z, reason: lamp}", "name a 'camera', a 'product' or both"),
        ("{camera: a, starts: 2026-01-02T14:00Z, ends: 2026-01-02T14:00Z, reason: lamp}", "it ends"),
        ("{camera: a, starts: 2026-01-02, ends: 2026-01-03T14:00Z, reason: lamp}", "2026-01-02 is a day; write a time"),
        ("{camera: a, starts: noon, ends: 2026-01-03T14:00Z, reason: lamp}", "'noon' is no time in ISO 8601"),
        ("{camera: a, starts: 7, ends: 2026-01-03T14:00Z, reason: lamp}", "'7' is no time in ISO 8601"),
        ("{camera: a, starts: 2026-01-02T14:00Z, reason: lamp}", "ends is missing"),
        ("{camera: a, starts: 2026-01-02T14:00Z, ends: 2026-01-03T14:00Z}", "reason is missing"),
        ("{camera: a, until: x, starts: 2026-01-02T14:00Z, ends: 2026-01-03T14:00Z}", "until is unknown"),
    ],
)
def test_what_is_no_silence_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        silence(text)
    assert str(refused.value).startswith("worker.yaml: ")
    assert sentence in str(refused.value)


def test_the_settings_that_ship_show_one() -> None:
    text = (Path(__file__).parents[3] / "configs" / "worker.yaml").read_text(encoding="utf-8")
    lines = text.split("silences: []")[1].split("\n\n")[0].splitlines()[1:]
    (shown,) = yaml.safe_load("\n".join(line.removeprefix("#") for line in lines))
    assert parse_settings(shown, Silence, "worker.yaml").camera == "top-01"
