"""Frames' headers in, CloudEvents out."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import datetime, tzinfo
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

from tests import examples
from worker.contract.errors import FrameError
from worker.contract.preprocess import RawFormat
from worker.events import Frame, FrameInfo, Outcome, Position, events_of, json_schemas, result_id

repeatable = settings(derandomize=True, deadline=None)

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
OUTCOMES = {
    "good": examples.verdict(examples.frame(7)),
    "alert": examples.verdict(examples.frame(8), "wrong_orientation"),
    "alert with heat map": examples.verdict(examples.frame(10), "defect", heat_map=examples.HEAT_MAP),
    "late": examples.late(examples.frame(11)),
    "dead letter": examples.dead_letter(examples.frame(9)),
}


def validator(kind: str) -> Draft202012Validator:
    name = {"dead_letter": "dead-letter", "late": "late"}.get(kind, "result")
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
    [("good", ["verdict"]), ("alert", ["verdict", "alert"]), ("late", ["late"]), ("dead letter", ["dead_letter"])],
)
def test_an_outcome_is_one_event_and_an_alert_one_more(outcome: str, kinds: list[str]) -> None:
    events = events_of(OUTCOMES[outcome])

    assert [event.kind for event in events] == kinds
    assert len({event.value for event in events}) == 1


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES.keys())
def test_the_sdk_reads_every_event(outcome: Outcome) -> None:
    for event in events_of(outcome):
        read = from_binary(KafkaMessage(dict(event.headers), event.key, event.value), JSONFormat())
        assert read.get_specversion() == "1.0"
        assert read.get_type() == f"quarterturn.{event.kind}.v1"
        assert read.get_id() == f"{event.kind}:{result_id(outcome.position)}"
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
    assert data["frame"] == {"topic": "frames", "partition": 0, "offset": 8, "capturedAt": None}


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


positions = st.builds(Position, st.from_regex(r"[a-zA-Z0-9._-]{1,20}", fullmatch=True), st.integers(0), st.integers(0))


@repeatable
@given(positions, positions)
def test_the_id_tells_frames_apart_and_repetitions_not(one: Position, other: Position) -> None:
    def ids(position: Position) -> list[bytes]:
        frame = Frame(position, None, {}, b"")
        return [dict(event.headers)["ce_id"] for event in events_of(examples.verdict(frame, "defect"))]

    assert ids(one) == ids(one)
    assert (ids(one) == ids(other)) == (one == other)
    assert len(set(ids(one))) == 2


KNOWN_HEADERS = ("camera", "product", "part_id", "captured_at", "simulated", "width", "height", "pixel_format")
values = st.one_of(st.binary(max_size=30), st.text(max_size=30).map(str.encode), st.integers().map(lambda n: b"%d" % n))


@repeatable
@given(st.dictionaries(st.sampled_from(KNOWN_HEADERS), values), st.none() | st.binary(max_size=20))
def test_any_header_gives_the_frames_info_or_says_what_is_wrong(headers: dict[str, bytes], key: bytes | None) -> None:
    frame = Frame(Position("frames", 0, 0), key, headers, b"")
    try:
        info = frame.info()
    except FrameError:
        return
    assert isinstance(info, FrameInfo)
    assert info.camera


def with_headers(**headers: bytes) -> Frame:
    return Frame(Position("frames", 0, 0), b"from-key", headers, b"")


def test_reads_every_header() -> None:
    info = with_headers(
        camera="Prüfstand 1".encode(),
        product=b"ring",
        part_id=b"SN-1",
        captured_at=b"2026-01-02T03:04:05.678Z",
        simulated=b"true",
        width=b"640",
        height=b"480",
        pixel_format=b"Mono8",
        unknown=b"\xff",
    ).info()

    raw = RawFormat(640, 480, "Mono8")
    assert info == FrameInfo("Prüfstand 1", "ring", "SN-1", "2026-01-02T03:04:05.678Z", True, raw)
    assert with_headers().info() == FrameInfo("from-key", None, None, None, False, None)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"camera": b"\xff"}, "header 'camera' is not UTF-8 text; correct the camera's publisher"),
        ({"captured_at": b"yesterday"}, "header 'captured_at' is 'yesterday', which is no ISO 8601 time"),
        (
            {"width": b"640", "height": b"480"},
            "need the headers width, height and pixel_format; pixel_format is missing",
        ),
        ({"width": b"wide", "height": b"1", "pixel_format": b"Mono8"}, "width and height must be whole numbers"),
    ],
)
def test_a_bad_header_is_named(headers: dict[str, bytes], message: str) -> None:
    with pytest.raises(FrameError, match=message) as caught:
        with_headers(**headers).info()
    assert caught.value.reason == "bad_header"


@pytest.mark.parametrize("captured_at", ["2026-01-01T12:00:00Z", "2026-01-01T14:00:00+02:00", "2026-01-01T12:00:00"])
def test_the_age_of_a_frame(captured_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            return cls(2026, 1, 1, 12, 0, 1, 250_000, tzinfo=tz)

    monkeypatch.setattr("worker.events.datetime", Clock)
    assert with_headers(captured_at=captured_at.encode()).info().age_ms() == 1250
    assert with_headers(captured_at=b"9999-12-31T23:59:59Z").info().age_ms() == 0
    assert with_headers(captured_at=b"0001-01-01T00:00:00").info().age_ms() > 6e13


def test_the_age_of_a_frame_that_does_not_say_when() -> None:
    with pytest.raises(FrameError, match="header 'captured_at' is missing, and the camera has a max_age_ms; send it"):
        with_headers().info().age_ms()


def test_a_frame_of_nobody_is_named() -> None:
    with pytest.raises(FrameError, match="neither a header 'camera' nor a record key names the camera"):
        Frame(Position("frames", 0, 0), None, {}, b"").info()


def test_the_position_reads_as_in_the_logs() -> None:
    assert str(Position("frames", 2, 1841)) == "frames[2]@1841"
