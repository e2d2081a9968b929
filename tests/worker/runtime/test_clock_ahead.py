"""A camera whose clock is ahead of ours: its frames would never be late, and their age is wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.events import Late, Outcome
from quarterturn.worker.runtime.health import Health
from quarterturn.worker.settings.worker import CameraSettings
from tests import examples
from tests.parts import NumpyEngine, bank_of, frame


def captured(camera: str | None, ahead_s: float) -> Outcome:
    """A result of now, of a frame that claims to have been taken so much later."""
    outcome = examples.dead_letter(examples.frame())
    at = (datetime.now(timezone.utc) + timedelta(seconds=ahead_s)).isoformat()
    place = outcome.data.frame.model_copy(update={"captured_at": at})
    return replace(outcome, data=outcome.data.model_copy(update={"camera": camera, "frame": place}))


def counted(health: Health, camera: str) -> float | None:
    return health.registry.get_sample_value("quarterturn_notices_total", {"camera": camera, "kind": "clock_ahead"})


def test_it_is_counted_and_said_once_for_each_camera(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    for ahead_s in (30, 30, 0.1, -5):
        health.count([captured("top-01", ahead_s), captured("side", 0), captured("gate", ahead_s)], 0.1, 0.01)
    assert {camera: counted(health, camera) for camera in ("top-01", "side", "gate")} == {
        "top-01": 2,
        "side": 0,
        "gate": 2,
    }
    said = [record.message for record in caplog.records if "clock_ahead" in record.message]
    assert [line.partition(":")[0] for line in said] == ["cam=top-01", "cam=gate"]
    assert "frames[0]@0: captured_at is" in said[0]
    assert "s ahead of our clock" in said[0]


def test_a_frame_that_does_not_say_its_camera_is_counted_too() -> None:
    health = Health()
    health.count([captured(None, 30)], 0.1, 0.01)
    assert counted(health, "unknown") == 1


def test_it_is_seen_on_frames_that_can_be_late(caplog: pytest.LogCaptureFixture) -> None:
    """The inspector takes such a frame for one of now: that is what has to be told."""
    engine = NumpyEngine()
    inspector = Inspector(engine, "line-1", 0.05, {"top-01": CameraSettings(max_age_ms=1000)})
    inspector.use(bank_of(engine))
    at = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    outcomes = inspector.inspect([frame(b"no picture", captured_at=at)])
    inspector.close()
    assert not isinstance(outcomes[0], Late)
    health = Health()
    health.count(outcomes, 0.1, 0.01)
    assert counted(health, "top-01") == 1
