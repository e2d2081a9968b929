from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.messages.events import Outcome, ahead_s, events_of, position_of, result_id
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.messages.schemas import json_schemas
from tests import examples

repeatable = settings(derandomize=True, deadline=None)

SCHEMAS = Path(__file__).parents[3] / "docs" / "schemas"
OUTCOMES = {
    "good": examples.verdict(examples.frame(7)),
    "alert": examples.verdict(examples.frame(8), "wrong_orientation"),
    "unusable picture": examples.verdict(examples.frame(12), "unusable_picture"),
    "alert with heat map": examples.verdict(examples.frame(10), "defect", heat_map=examples.HEAT_MAP),
    "held alert": replace(examples.verdict(examples.frame(13), "defect"), held="cool_down"),
    "alert with an episode": examples.with_episode(examples.verdict(examples.frame(14), "defect"), "raised"),
    "good with an episode": examples.with_episode(examples.verdict(examples.frame(15)), "cleared"),
    "good with a drift": examples.with_drift(examples.verdict(examples.frame(16)), "raised"),
    "held alert with a drift": examples.with_drift(
        replace(examples.verdict(examples.frame(17), "defect"), held="inhibited"), "cleared"
    ),
    "late": examples.late(examples.frame(11)),
    "dead letter": examples.dead_letter(examples.frame(9)),
}


def validator(kind: str) -> Draft202012Validator:
    name = {"verdict": "result", "alert": "result"}.get(kind, kind.replace("_", "-"))
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


def test_the_published_schemas_are_those_of_the_code() -> None:
    published = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in SCHEMAS.glob("*.json")}
    assert published == json_schemas(), "run: python docs/schemas/generate.py"


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES.keys())
def test_what_is_published_fits_its_schema(outcome: Outcome) -> None:
    for event in events_of(outcome):
        validator(event.kind).validate(json.loads(event.value))


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES.keys())
def test_the_schema_refuses_what_is_not_published(outcome: Outcome) -> None:
    event = events_of(outcome)[0]
    data = json.loads(event.value)
    for wrong in (data | {"colour": "red"}, data | {"resultId": 7}, {k: v for k, v in data.items() if k != "frame"}):
        with pytest.raises(ValidationError):
            validator(event.kind).validate(wrong)


@pytest.mark.parametrize(
    ("outcome", "kinds"),
    [
        ("good", ["verdict"]),
        ("alert", ["verdict", "alert"]),
        ("held alert", ["verdict"]),
        ("alert with an episode", ["verdict", "alert", "episode"]),
        ("good with an episode", ["verdict", "episode"]),
        ("good with a drift", ["verdict", "drift"]),
        ("held alert with a drift", ["verdict", "drift"]),
        ("late", ["late"]),
        ("dead letter", ["dead_letter"]),
    ],
)
def test_an_outcome_is_one_event_and_an_alert_that_is_not_held_one_more(outcome: str, kinds: list[str]) -> None:
    events = events_of(OUTCOMES[outcome])

    assert [event.kind for event in events] == kinds
    assert len({event.value for event in events if event.kind not in ("episode", "drift")}) == 1


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES.keys())
def test_the_sdk_reads_every_event(outcome: Outcome) -> None:
    for event in events_of(outcome):
        read = from_binary(KafkaMessage(dict(event.headers), event.key, event.value), JSONFormat())
        assert read.get_specversion() == "1.0"
        assert read.get_type() == f"quarterturn.{event.kind}.v1"
        about = {"episode": r":defect", "drift": r":brightness:(raised|cleared)"}.get(event.kind, "")
        assert re.fullmatch(f"{event.kind}:{re.escape(result_id(outcome.position))}{about}", read.get_id())
        assert read.get_source() == "/quarterturn/line-3/top-01"
        assert read.get_datacontenttype() == "application/json"
        assert read.get_data() == json.loads(event.value)


def test_opc_names_carry_the_result() -> None:
    alert = OUTCOMES["alert"]
    data: dict[str, Any] = json.loads(events_of(alert)[0].value)

    assert data["resultId"] == "frames:0:8"
    assert data["isPartial"] is False
    assert data["resultState"] == "completed"
    assert data["jobId"] == "line-3"
    assert data["internalRecipeId"] == "e" * 64
    assert data["internalConfigurationId"] == "b" * 64
    assert data["alert"] == "wrong_orientation"
    assert data["viewDistances"] == [0.5, 0.6, 0.7, 0.8]
    assert data["pValue"] == 0.005
    assert data["heatMap"] is None
    assert data["frame"] == {"topic": "frames", "partition": 0, "offset": 8, "topicId": None, "capturedAt": None}


def test_a_heat_map_travels_as_a_picture() -> None:
    """A consumer needs no more than base64 and a PNG reader."""
    data: dict[str, Any] = json.loads(events_of(OUTCOMES["alert with heat map"])[1].value)
    levels = cv2.imdecode(np.frombuffer(base64.b64decode(data["heatMap"]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert levels.tolist() == [[0, 64], [128, 255]]


@pytest.mark.parametrize("p_value", [0.0, -0.1, 1.5, None])
def test_the_schema_knows_what_a_p_value_is(p_value: float | None) -> None:
    data: dict[str, Any] = json.loads(events_of(OUTCOMES["good"])[0].value)
    with pytest.raises(ValidationError):
        validator("verdict").validate(data | {"pValue": p_value})
    validator("verdict").validate(data | {"pValue": 1.0})


def test_the_map_behind_a_heat_map_is_not_published_and_does_not_tell_verdicts_apart() -> None:
    outcome = examples.verdict(examples.frame(7))
    warmer = replace(outcome, heat=np.ones((4, 4), np.float32))
    assert outcome.heat.tolist() == [[0]]
    assert warmer.data is outcome.data
    assert warmer == outcome
    assert events_of(warmer) == events_of(outcome)


names = st.from_regex(r"[a-zA-Z0-9._-]{1,20}", fullmatch=True)
topic_ids = st.none() | st.from_regex(r"[a-zA-Z0-9_-]{1,22}", fullmatch=True)
counts = st.integers(0, 2**63 - 1)  # what Kafka has room for
positions = st.builds(Position, names, counts, counts, topic_ids)


@repeatable
@given(positions, positions)
def test_the_id_tells_frames_apart_and_repetitions_not(one: Position, other: Position) -> None:
    def ids(position: Position) -> list[bytes]:
        frame = Frame(position, None, {}, b"")
        return [dict(event.headers)["ce_id"] for event in events_of(examples.verdict(frame, "defect"))]

    assert ids(one) == ids(one)
    assert (ids(one) == ids(other)) == (one == other)
    assert len(set(ids(one))) == 2


@repeatable
@given(positions)
def test_an_id_tells_the_position_of_its_frame(position: Position) -> None:
    assert position_of(result_id(position)) == position


@pytest.mark.parametrize(
    "text",
    [
        "",
        "frames",
        "frames:0",
        "frames:0:-1",
        "frames:00:1",
        "frames:0:1x",
        "a:b:c:0:1",
        ":0:1",
        "frames:0:1\n",
        "f:0:٣",
    ],
)
def test_what_is_no_id_of_a_result(text: str) -> None:
    with pytest.raises(DataError, match="is no id of a result"):
        position_of(text)


@repeatable
@given(st.text() | st.from_regex(r"[a-z:]{0,9}(:[0-9]{1,3}){0,4}", fullmatch=True))
def test_two_ids_never_name_one_frame(text: str) -> None:
    with suppress(DataError):
        assert result_id(position_of(text)) == text


@pytest.mark.parametrize(
    ("captured_at", "ahead"),
    [(None, 0), ("2026-01-01T11:59:59Z", 0), ("2026-01-01T13:00:02+01:00", 2), ("2026-01-01T12:00:00.5Z", 0.5)],
)
@pytest.mark.parametrize("of", [examples.verdict, examples.late, examples.dead_letter])
def test_how_far_a_frame_is_ahead_of_its_own_result(
    of: Callable[[Frame], Outcome], captured_at: str | None, ahead: float
) -> None:
    outcome = of(examples.frame())
    frame = outcome.data.frame.model_copy(update={"captured_at": captured_at})
    data = outcome.data.model_copy(update={"frame": frame, "creation_time": "2026-01-01T12:00:00.000Z"})
    assert ahead_s(replace(outcome, data=data)) == ahead
