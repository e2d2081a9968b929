from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.events import DeadLetter, Late, Outcome
from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.runtime.health import Health
from quarterturn.worker.runtime.service import Service
from quarterturn.worker.settings.worker import BatchSettings, CameraSettings
from quarterturn.worker.transport.memory import Fault, MemoryTransport
from tests.parts import SIDE, NumpyEngine, bank_of, frame, good_part, png

RNG = np.random.default_rng(11)
TIMEOUT_S = 20


@pytest.fixture
def health() -> Health:
    return Health()


def frames(count: int, start: int = 0) -> list[Frame]:
    return [frame(png(good_part(RNG)), start + n) for n in range(count)]


def service(transport: MemoryTransport, health: Health, engine: NumpyEngine | None = None) -> Service:
    engine = engine or NumpyEngine()
    inspector = Inspector(engine, "line-1", overkill=0.02)
    inspector.use(bank_of(engine))
    return Service(transport, inspector, health, BatchSettings(max_frames=4))


def offsets(outcomes: Sequence[Outcome]) -> list[int]:
    return [outcome.position.offset for outcome in outcomes]


def sample(health: Health, name: str, **labels: str) -> float | None:
    return health.registry.get_sample_value(name, labels)


def test_every_frame_is_delivered_in_order(health: Health) -> None:
    broken = [frame(b"", 5), frame(b"no picture", 6)]
    transport = MemoryTransport([*frames(5), *broken, *frames(10, start=7)])
    service(transport, health).run(threading.Event())
    assert offsets(transport.outcomes) == list(range(17))
    assert [o.position.offset for o in transport.outcomes if isinstance(o, DeadLetter)] == [5, 6]
    assert sample(health, "quarterturn_dead_letters_total", reason="empty") == 1
    assert sample(health, "quarterturn_latency_seconds_count") == 17
    assert not health.ready


def test_a_rewind_loses_nothing_and_repeats_nothing(health: Health) -> None:
    transport = MemoryTransport([*frames(6), Fault.REWIND, *frames(9, start=6), Fault.REWIND, *frames(3, start=15)])
    service(transport, health).run(threading.Event())
    assert offsets(transport.outcomes) == list(range(18))
    assert sample(health, "quarterturn_rewinds_total") == 2


def test_an_outage_ends_the_service(health: Health) -> None:
    transport = MemoryTransport([*frames(4), Fault.OUTAGE, *frames(4, start=4)])
    with pytest.raises(UnavailableError, match="outage"):
        service(transport, health).run(threading.Event())
    assert not health.ready


def test_a_service_that_fails_leaves_nothing_in_the_engine(health: Health) -> None:
    """Whoever closes the engine next would take it away from a thread that works with it."""
    at_work = threading.Event()

    class Slow(NumpyEngine):
        def embed(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            at_work.set()
            time.sleep(0.2)
            found = super().embed(frames)
            at_work.clear()
            return found

    class Failing(MemoryTransport):
        def deliver(self, outcomes: Sequence[Outcome]) -> None:
            assert at_work.wait(TIMEOUT_S), "the next batch did not come into the engine"
            raise UnavailableError("memory: nothing is delivered")

    with pytest.raises(UnavailableError, match="nothing is delivered"):
        service(Failing(frames(8)), health, Slow()).run(threading.Event())
    assert not at_work.is_set()


class GatedEngine(NumpyEngine):
    """Embeds only while the gate is open, and tells when it was entered."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()

    def embed(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.entered.release()
        assert self.gate.wait(TIMEOUT_S)
        return super().embed(frames)


def gated(transport: MemoryTransport, health: Health) -> tuple[Service, GatedEngine]:
    """A service whose engine was not entered yet by any of its frames, with its gate closed."""
    engine = GatedEngine()
    engine.gate.set()
    working = service(transport, health, engine)
    engine.gate.clear()
    engine.entered = threading.Semaphore(0)  # its bank was fitted through it, too
    return working, engine


class CountingTransport(MemoryTransport):
    """Counts the frames that were polled and not delivered."""

    open_frames = 0
    most_open = 0

    def __init__(self, script: Sequence[Frame]) -> None:
        super().__init__(script)
        self.polled = threading.Semaphore(0)

    def poll(self, max_frames: int, timeout_s: float) -> list[Frame]:
        polled = super().poll(max_frames, timeout_s)
        self.open_frames += len(polled)
        self.most_open = max(self.most_open, self.open_frames)
        self.polled.release()
        return polled

    def deliver(self, outcomes: Sequence[Outcome]) -> None:
        super().deliver(outcomes)
        self.open_frames -= len(outcomes)


def test_at_most_two_batches_are_open_and_a_stop_delivers_them(health: Health) -> None:
    transport = CountingTransport(frames(40))
    working, engine = gated(transport, health)
    stop = threading.Event()
    thread = threading.Thread(target=working.run, args=(stop,))
    thread.start()
    assert engine.entered.acquire(timeout=TIMEOUT_S)  # batch 1 is in the engine ...
    assert transport.polled.acquire(timeout=TIMEOUT_S)
    assert transport.polled.acquire(timeout=TIMEOUT_S)  # ... and batch 2 polled meanwhile
    assert health.ready
    stop.set()
    engine.gate.set()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()
    assert transport.open_frames == 0
    assert transport.most_open == 8
    assert offsets(transport.outcomes) == list(range(8))


def test_an_engine_that_hangs_is_no_progress(health: Health) -> None:
    transport = CountingTransport(frames(12))
    working, engine = gated(transport, health)
    thread = threading.Thread(target=working.run, args=(threading.Event(),))
    thread.start()
    assert engine.entered.acquire(timeout=TIMEOUT_S)
    assert transport.polled.acquire(timeout=TIMEOUT_S)
    assert transport.polled.acquire(timeout=TIMEOUT_S)
    deadline = time.monotonic() + TIMEOUT_S
    while health.stalled_s() < 0.3:  # no turn of the loop ends: each would begin at 0 again
        assert time.monotonic() < deadline
    engine.gate.set()
    thread.join(TIMEOUT_S)
    assert offsets(transport.outcomes) == list(range(12))
    assert health.stalled_s() == 0


class SlowSink(CountingTransport):
    """Takes a delivery only when told to."""

    def __init__(self, script: Sequence[Frame]) -> None:
        super().__init__(script)
        self.asked = threading.Semaphore(0)
        self.takes = threading.Semaphore(0)

    def deliver(self, outcomes: Sequence[Outcome]) -> None:
        self.asked.release()
        assert self.takes.acquire(timeout=TIMEOUT_S)
        super().deliver(outcomes)


def test_a_slow_sink_pauses_the_source_and_nothing_is_dropped(health: Health) -> None:
    transport = SlowSink(frames(40))
    thread = threading.Thread(target=service(transport, health).run, args=(threading.Event(),))
    thread.start()
    for delivered in range(0, 40, 4):
        assert transport.asked.acquire(timeout=TIMEOUT_S)
        assert transport.open_frames <= 8
        assert len(transport.outcomes) == delivered
        transport.takes.release()
    thread.join(TIMEOUT_S)
    assert offsets(transport.outcomes) == list(range(40))
    assert transport.most_open == 8


class LateCamera(SlowSink):
    """Has no frame for the polls that follow the first, until `more` is set."""

    def __init__(self, script: Sequence[Frame]) -> None:
        super().__init__(script)
        self.more = threading.Event()
        self.looked = threading.Semaphore(0)

    def poll(self, max_frames: int, timeout_s: float) -> list[Frame]:
        polled = super().poll(1, timeout_s) if self.most_open == 0 or self.more.is_set() else []
        self.looked.release()
        return polled


def test_a_frame_that_comes_while_the_engine_is_busy_does_not_wait_for_the_delivery(health: Health) -> None:
    transport = LateCamera(frames(2))
    working, engine = gated(transport, health)
    thread = threading.Thread(target=working.run, args=(threading.Event(),))
    thread.start()
    assert engine.entered.acquire(timeout=TIMEOUT_S)  # the first is in the engine,
    for _ in range(2):
        assert transport.looked.acquire(timeout=TIMEOUT_S)  # and nothing waited then
    transport.more.set()
    engine.gate.set()
    assert transport.asked.acquire(timeout=TIMEOUT_S)  # nobody takes the first yet
    assert engine.entered.acquire(timeout=TIMEOUT_S)  # and yet the second is in the engine
    transport.takes.release(2)
    thread.join(TIMEOUT_S)
    assert offsets(transport.outcomes) == [0, 1]


def test_late_frames_are_counted(health: Health) -> None:
    engine = NumpyEngine()
    inspector = Inspector(engine, "line-1", overkill=0.02, cameras={"gate": CameraSettings(max_age_ms=1000)})
    inspector.use(bank_of(engine))
    old = [frame(b"", n, camera="gate", captured_at="2026-01-01T00:00:00Z") for n in range(3)]
    transport = MemoryTransport(old)
    Service(transport, inspector, health, BatchSettings()).run(threading.Event())
    assert [type(outcome) for outcome in transport.outcomes] == [Late] * 3
    assert sample(health, "quarterturn_frames_total", camera="gate", outcome="late") == 3


def test_pictures_unlike_the_banks_are_counted_and_said_once(health: Health, caplog: pytest.LogCaptureFixture) -> None:
    grey = [cv2.imencode(".png", good_part(RNG)[..., 0])[1].tobytes() for _ in range(3)]
    with caplog.at_level(logging.WARNING):
        transport = MemoryTransport([*(frame(one, n) for n, one in enumerate(grey)), *frames(2, start=3)])
        service(transport, health).run(threading.Event())
    assert sample(health, "quarterturn_notices_total", camera="top-01", kind="picture_colour") == 3
    assert sample(health, "quarterturn_notices_total", camera="top-01", kind="picture_size") == 0
    (said,) = caplog.messages
    assert said.startswith("cam=top-01: picture_colour: frames[0]@0: its pictures are grey, those of the bank have")


def test_pictures_that_cannot_be_judged_are_counted(health: Health) -> None:
    black = png(np.zeros((SIDE, SIDE, 3), np.uint8))
    service(MemoryTransport([frame(black, n) for n in range(3)]), health).run(threading.Event())
    assert sample(health, "quarterturn_frames_total", camera="top-01", outcome="unusable_picture") == 3


def test_an_engine_that_fails_ends_the_service_without_delivery(health: Health) -> None:
    class BrokenEngine(NumpyEngine):
        def embed(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            raise RuntimeError("out of memory")

    engine = BrokenEngine()
    inspector = Inspector(engine, "line-1", overkill=0.02)
    inspector.use(bank_of(NumpyEngine()))
    transport = MemoryTransport(frames(8))
    with pytest.raises(RuntimeError, match="out of memory"):
        Service(transport, inspector, health, BatchSettings(max_frames=4)).run(threading.Event())
    assert transport.outcomes == []
