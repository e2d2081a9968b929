"""Alerts of a service whose deliveries are taken back: each is decided once, and counted once."""

from __future__ import annotations

import json
import threading

import numpy as np

from quarterturn.worker.alerting.alerting import Alerting
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.runtime.health import Health
from quarterturn.worker.runtime.service import Service
from quarterturn.worker.settings.worker import AlertSettings, BatchSettings, CameraSettings
from quarterturn.worker.transport.memory import Fault, MemoryTransport
from tests.parts import NumpyPlacesEngine, bank_of, frame, good_part, png, scratched_part

RNG = np.random.default_rng(11)
CAMERA = {"top-01": CameraSettings(alerts=AlertSettings(group_runs=True), drift=None)}
DEFECTS = range(3, 18)


def sent(start: int, stop: int) -> list[Frame]:
    """Frames from a longer row, of which those of DEFECTS are scratched."""
    return [frame(png((scratched_part if n in DEFECTS else good_part)(RNG)), n) for n in range(start, stop)]


def test_an_alert_that_comes_again_is_published_and_counted_once() -> None:
    engine, health = NumpyPlacesEngine(), Health(CAMERA)
    inspector = Inspector(engine, "line-1", overkill=0.02, cameras=CAMERA)
    inspector.use(bank_of(engine))
    # Deliveries are taken back where the run begins, in its midst, and where it ends.
    transport = MemoryTransport(
        [*sent(0, 2), Fault.REWIND, *sent(2, 8), Fault.REWIND, *sent(8, 16), Fault.REWIND, *sent(16, 20)]
    )
    service = Service(transport, inspector, health, BatchSettings(max_frames=4), Alerting(CAMERA))
    service.run(threading.Event())
    assert health.registry.get_sample_value("quarterturn_rewinds_total") == 3
    events = [(event.kind, json.loads(event.value)) for event in transport.events if event.kind != "verdict"]
    assert [(kind, data.get("state"), data["frame"]["offset"]) for kind, data in events] == [
        ("alert", None, 3),
        ("episode", "raised", 3),
        ("episode", "grown", 12),
        ("episode", "cleared", 18),
    ]
    held = {"camera": "top-01", "why": "in_a_run"}
    assert health.registry.get_sample_value("quarterturn_alerts_held_total", held) == len(DEFECTS) - 1
    for state, count in (("raised", 1), ("grown", 1), ("cleared", 1)):
        labels = {"camera": "top-01", "event": "episode", "state": state}
        assert health.registry.get_sample_value("quarterturn_alarms_total", labels) == count
