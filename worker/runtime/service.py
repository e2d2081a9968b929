"""The worker's loop: poll, inspect, deliver, until told to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.events import DeadLetter, Late, Outcome
from quarterturn.worker.runtime.health import Health
from quarterturn.worker.settings.worker import BatchSettings
from quarterturn.worker.transport.base import RewoundError, Transport

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _InFlight:
    """A batch in the engine, and when it was polled."""

    outcomes: Future[list[Outcome]]
    polled_s: float


class Service:
    """Moves frames from the transport through the inspector and back.

    While batch n is in the engine (its own thread), this thread delivers batch n-1 and polls and decodes batch n+1;
    so at most two batches are in memory, and the transport is used from one thread only.
    """

    def __init__(self, transport: Transport, inspector: Inspector, health: Health, batch: BatchSettings) -> None:
        self._transport = transport
        self._inspector = inspector
        self._health = health
        self._batch = batch

    def run(self, stop: threading.Event) -> None:
        """Inspect until `stop` is set or the transport is exhausted; what was polled is delivered before returning.

        Raises:
            UnavailableError: the transport gave up. Frames not delivered stay undone and will be polled again.
        """
        in_flight: _InFlight | None = None
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine") as engine:
            self._health.progress()
            self._health.ready = True
            try:
                while in_flight or not (stop.is_set() or self._transport.exhausted):
                    self._health.progress()
                    in_flight = self._step(engine, in_flight, polling=not stop.is_set())
            finally:
                self._health.ready = False

    def _step(self, engine: ThreadPoolExecutor, in_flight: _InFlight | None, polling: bool) -> _InFlight | None:
        """Start the next batch, if frames wait, then deliver the one in flight; returns the new batch in flight."""
        upcoming: _InFlight | None = None
        timeout_s = 0.0 if in_flight else self._batch.poll_timeout_s
        frames = self._transport.poll(self._batch.max_frames, timeout_s) if polling else []
        if frames:
            polled_s = time.perf_counter()
            prepared = self._inspector.prepare(frames)
            upcoming = _InFlight(engine.submit(self._inspector.score, prepared), polled_s)
        if in_flight is None:
            return upcoming
        try:
            self._deliver(in_flight)
        except RewoundError as rewound:
            log.warning("%s; the frames will be polled again", rewound)
            self._health.rewinds.inc()
            if upcoming:
                upcoming.outcomes.result()  # the engine finishes, nobody delivers
            return None
        return upcoming

    def _deliver(self, batch: _InFlight) -> None:
        outcomes = batch.outcomes.result()
        self._transport.deliver(outcomes)
        self._count(outcomes, time.perf_counter() - batch.polled_s)

    def _count(self, outcomes: Sequence[Outcome], latency_s: float) -> None:
        self._health.batch.observe(len(outcomes))
        for outcome in outcomes:
            self._health.latency.observe(latency_s)
            if isinstance(outcome, DeadLetter):
                reason, message = outcome.data.reason, outcome.data.message
                camera = outcome.data.camera or "unknown"
                log.warning("%s cam=%s: %s: %s", outcome.position, camera, reason, message)
                self._health.dead_letters.labels(reason).inc()
                self._health.count_frame(outcome.data.camera, "dead_letter")
            elif isinstance(outcome, Late):
                self._health.count_frame(outcome.data.camera, "late")
            else:
                self._health.count_frame(outcome.data.camera, outcome.data.alert or "good")
