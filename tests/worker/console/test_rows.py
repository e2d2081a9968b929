"""What the index keeps of an event: results of all kinds, and nothing of what is none."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterturn.worker.console.alarms import alarm_of
from quarterturn.worker.console.rows import Row, place_of, row_of
from quarterturn.worker.messages.events import AlertKind, events_of
from quarterturn.worker.messages.frames import Position
from tests.worker.console.pretend import Made, outcome_of

PLACE = Position("frames", 2, 17)
LANES = {
    "defect": "defect",
    "wrong_product": "wrong",
    "wrong_orientation": "wrong",
    "unusable_picture": "unusable",
    None: None,
    "late": None,
    "dead_letter": None,
}


def data_of(made: Made) -> dict[str, Any]:
    """As a consumer of the topic reads it."""
    return dict(json.loads(events_of(outcome_of(made, PLACE))[0].value))


def row(data: object) -> Row | None:
    found = row_of(data)
    return found and found[0]


def test_every_kind_of_alert_has_a_lane() -> None:
    assert set(get_args(AlertKind)) <= LANES.keys()


@pytest.mark.parametrize("kind", LANES, ids=str)
def test_an_outcome_of_each_kind_is_a_row_in_its_lane(kind: str | None) -> None:
    found = row(data_of(Made(kind, part="p-1", product="ring", camera="top-01")))
    assert found is not None
    assert (found["kind"], found["lane"]) == (kind, LANES[kind])
    assert (found["camera"], found["product"], found["part"]) == ("top-01", "ring", "p-1")
    assert place_of(found) == PLACE
    assert found["age_ms"] == pytest.approx(50, abs=2)


def test_a_kind_of_a_newer_worker_waits_among_the_defects() -> None:
    found = row({**data_of(Made("defect")), "alert": "sabotage", "whatIsNew": 1})
    assert found is not None
    assert (found["kind"], found["lane"]) == ("sabotage", "defect")


@pytest.mark.parametrize(
    "change",
    [
        {"resultId": "no position"},
        {"resultId": "frames:0:" + "9" * 30},
        {"creationTime": "yesterday"},
        {"score": -1.0},
        {"score": "much"},
        {"camera": "x" * 10_000},
        {"camera": "\ud800"},
        {"heatMap": "A" * 50_000},
        {"frame": None},
        {"resultId": None},
    ],
    ids=lambda change: ascii(change)[:24],
)
def test_what_is_no_result_is_none(change: dict[str, Any]) -> None:
    assert row_of({**data_of(Made("defect")), **change}) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_any_json_is_a_row_or_none(data: object) -> None:
    assert row_of(data) is None
    assert alarm_of(data) is None


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"kind": "defect", "count": 14, "state": "grown"}, ("episode", "defect", True)),
        ({"kind": "defect", "count": 14, "state": "cleared"}, ("episode", "defect", False)),
        ({"measure": "brightness", "reason": "darker", "state": "raised"}, ("drift:brightness", "drift", True)),
    ],
)
def test_an_alarm_of_a_camera_is_no_result(about: dict[str, Any], expected: tuple[str, str, bool]) -> None:
    common = {
        name: value
        for name, value in data_of(Made()).items()
        if name in {"resultId", "creationTime", "camera", "frame"}
    }
    alarm = alarm_of({**common, **about})
    assert alarm is not None
    assert (alarm["about"], alarm["kind"], alarm["raised"]) == expected
    assert alarm_of(data_of(Made("defect"))) is None
