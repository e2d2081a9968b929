from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.worker.messages.events import Outcome, events_of
from quarterturn.worker.parts.seen import Seen, read_seen
from quarterturn.worker.settings.parts import PartsSettings
from tests import examples

SETTINGS = PartsSettings(cameras=("top-01", "side-01"), products={"bracket": ("side-01",)})
VERDICT = b"quarterturn.verdict.v1"


def record(outcome: Outcome, **changes: Any) -> tuple[bytes | None, bytes]:
    """What a worker publishes, with its part named, and `changes` in its data."""
    event = events_of(outcome)[0]
    data = json.loads(event.value) | {"partId": "SN-1"} | changes
    return dict(event.headers)["ce_type"], json.dumps(data).encode()


def read(outcome: Outcome, **changes: Any) -> Seen:
    found = read_seen(*record(outcome, **changes), SETTINGS)
    assert isinstance(found, Seen), found
    return found


def test_a_verdict_says_what_its_camera_saw() -> None:
    found = read(examples.verdict(examples.frame(7), "defect", heat_map=examples.HEAT_MAP))
    assert (found.result_id, found.part_id, found.camera) == ("frames:0:7", "SN-1", "top-01")
    assert (found.alert, found.ratio, found.product, found.line) == ("defect", 2.5, "screw", "line-3")
    assert read(examples.verdict(examples.frame()), productId="ring").product == "ring", (
        "declared goes before predicted"
    )
    assert read(examples.verdict(examples.frame()), isSimulated=True).simulated


def test_a_late_frame_was_not_inspected() -> None:
    assert read(examples.late(examples.frame())).ratio is None


@pytest.mark.parametrize(
    ("captured_at", "counts"),
    [
        (None, "2026-01-01T12:00:00.000Z"),
        ("2026-01-01T12:59:59+01:00", "2026-01-01T12:59:59+01:00"),
        ("2026-01-01T12:00:01Z", "2026-01-01T12:00:00.000Z"),
        ("9999-12-31T23:59:59Z", "2026-01-01T12:00:00.000Z"),
    ],
)
def test_its_time_is_the_frames_and_never_after_the_verdict(captured_at: str | None, counts: str) -> None:
    frame = {"topic": "frames", "partition": 0, "offset": 0, "capturedAt": captured_at}
    found = read(examples.verdict(examples.frame()), frame=frame, creationTime="2026-01-01T12:00:00.000Z")
    assert found.time == counts


def test_what_a_newer_worker_says_besides_is_not_in_the_way() -> None:
    assert read(examples.verdict(examples.frame()), colour="red", tint={"a": [1]}).part_id == "SN-1"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"partId": None}, "no_part_id"),
        ({"partId": ""}, "no_part_id"),
        ({"camera": "gate-01"}, "other_camera"),
        ({"productId": "bracket"}, "other_camera"),
        ({"camera": None}, "unreadable"),
        ({"creationTime": "noon"}, "unreadable"),
        ({"frame": {"capturedAt": "noon"}}, "unreadable"),
        ({"alert": "ugly"}, "unreadable"),
        ({"score": None}, "unreadable"),
        ({"score": float("nan")}, "unreadable"),
        ({"resultId": ""}, "unreadable"),
    ],
)
def test_what_counts_for_no_part(changes: dict[str, Any], why: str) -> None:
    assert read_seen(*record(examples.verdict(examples.frame()), **changes), SETTINGS) == why


@pytest.mark.parametrize("kind", [None, b"", b"quarterturn.alert.v1", b"quarterturn.dead_letter.v1", b"\xff"])
def test_events_of_other_types_are_none_of_ours(kind: bytes | None) -> None:
    _, value = record(examples.verdict(examples.frame()))
    assert read_seen(kind, value, SETTINGS) == "unreadable"


@settings(derandomize=True, deadline=None)
@given(st.none() | st.binary(max_size=200) | st.from_regex(rb"\A\[{0,2000}\Z"))
def test_any_bytes_are_read_or_refused(value: bytes | None) -> None:
    assert read_seen(VERDICT, value, SETTINGS) == "unreadable"
