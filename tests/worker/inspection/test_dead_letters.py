"""A dead letter says all that can be read of its frame, whatever is wrong with the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.events import DeadLetter, DeadLetterData
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.settings.worker import CameraSettings
from tests.parts import NumpyEngine, bank_of, good_part, png

HEADERS = {
    "camera": b"top-01",
    "product": b"ring",
    "part_id": b"SN-1",
    "captured_at": b"2026-01-02T03:04:05Z",
    "simulated": b"true",
}
SAID = {"camera": "top-01", "product_id": "ring", "part_id": "SN-1", "is_simulated": True}
FIELDS = {"product": "product_id", "simulated": "is_simulated"}


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    engine = NumpyEngine()
    made = Inspector(engine, "line-1", 0.02, {"gate": CameraSettings(max_age_ms=1000)})
    made.use(bank_of(engine))
    yield made
    made.close()


def frame(headers: dict[str, bytes], data: bytes | None = None, fault: FrameError | None = None) -> Frame:
    picture = png(good_part(np.random.default_rng(0))) if data is None else data
    return Frame(Position("frames", 2, 7, "Ab-_c"), b"from-key", headers, picture, fault)


def letter(inspector: Inspector, one: Frame) -> DeadLetterData:
    (outcome,) = inspector.inspect([one])
    assert isinstance(outcome, DeadLetter)
    assert outcome.data.result_id == outcome.data.meas_id == "frames:Ab-_c:2:7"
    assert outcome.data.frame.topic_id == "Ab-_c"
    return outcome.data


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("camera", b"\xff"),
        ("camera", b"x" * 2000),
        ("product", b"a\nb"),
        ("part_id", b"\xff\xfe"),
        ("captured_at", b"yesterday"),
        ("simulated", b"perhaps"),
        ("width", b"640"),
        ("pixel_format", b"Mono8"),
        ("caf\x1a", b""),
    ],
)
def test_a_bad_header_takes_only_itself_away(inspector: Inspector, name: str, value: bytes) -> None:
    data = letter(inspector, frame({**HEADERS, name: value}))
    assert data.reason == "bad_header"
    expected = {**SAID, FIELDS.get(name, name): False if name == "simulated" else None}
    assert {field: getattr(data, field) for field in SAID} == {field: expected[field] for field in SAID}
    assert data.frame.captured_at == (None if name == "captured_at" else "2026-01-02T03:04:05Z")


def test_a_bad_key_takes_only_itself_away(inspector: Inspector) -> None:
    data = letter(inspector, replace(frame(HEADERS), key=b"k" * 2000))
    assert (data.reason, data.camera, data.part_id) == ("bad_header", None, "SN-1")


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (frame(HEADERS, b""), "empty"),
        (frame(HEADERS, b"no picture"), "undecodable"),
        (frame({**HEADERS, "product": b"washer"}), "unknown_product"),
        (frame(HEADERS, b"", FrameError("corrupt_record", "its checksum is wrong")), "corrupt_record"),
        (frame({**HEADERS, "camera": b"gate", "captured_at": b""}), "bad_header"),  # late or not: nobody says when
    ],
)
def test_whatever_is_wrong_the_headers_are_said(inspector: Inspector, one: Frame, reason: str) -> None:
    data = letter(inspector, one)
    assert data.reason == reason
    assert (data.camera, data.part_id) == (one.headers["camera"].decode(), "SN-1")
