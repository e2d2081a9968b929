"""The worker's loop: poll, inspect, decide on alerts, deliver, until told to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass

from quarterturn.worker.alerting.alerting import Alerting
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.events import Outcome
from quarterturn.worker.runtime.health import Health
from quarterturn.worker.settings.worker import BatchSettings
from quarterturn.worker.transport.base import RewoundError, Transport, leave

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _InFlight:
    """A batch that is inspected, and when it was polled."""

    outcomes: Future[list[Outcome]]
    polled_s: float


class Service:
    """Moves frames from the transport through the inspector and back.

    While the inspector has batch n, batch n-1 is delivered, or batch n+1 polled; at most two batches are in memory, and
    one thread alone uses the transport.
    """

    def __init__(
        self,
        transport: Transport,
        inspector: Inspector,
        health: Health,
        batch: BatchSettings,
        alerting: Alerting | None = None,
    ) -> None:
        self._transport = transport
        self._inspector = inspector
        self._health = health
        self._batch = batch
        self._alerting = alerting or Alerting()

    def run(self, stop: threading.Event) -> None:
        """Inspect until `stop` is set or the transport is exhausted; what was polled is delivered before returning.

        Raises:
            UnavailableError: the transport gave up. Frames not delivered stay undone and will be polled again.
        """
        in_flight: _InFlight | None = None

        def begin(timeout_s: float) -> _InFlight | None:
            return None if stop.is_set() else self._begin(timeout_s)

        with self._health.working(self._transport, self._inspector):
            try:
                while in_flight or not (stop.is_set() or self._transport.exhausted):
                    self._health.progress()
                    in_flight = self._step(in_flight, begin)
            finally:
                self._inspector.finish()

    def leave(self) -> None:
        """Give this worker's share to the others though it may be stuck; it must end then. Any thread may call it."""
        leave(self._transport)

    def _begin(self, timeout_s: float) -> _InFlight | None:
        """Take the frames that wait, and send them on their way."""
        frames = self._transport.poll(self._batch.max_frames, timeout_s)
        return _InFlight(self._inspector.begin(frames), time.perf_counter()) if frames else None

    def _step(self, in_flight: _InFlight | None, begin: Callable[[float], _InFlight | None]) -> _InFlight | None:
        """Begin the next batch, if frames wait, then deliver the one in flight; returns the new batch in flight."""
        if in_flight is None:
            return begin(self._batch.poll_timeout_s)
        upcoming = begin(0.0)
        if upcoming is None:  # what comes while the engine is busy shall not wait for the delivery, too
            wait([in_flight.outcomes])
            upcoming = begin(0.0)
        try:
            self._deliver(in_flight)
        except RewoundError as rewound:
            log.warning("%s; the frames will be polled again", rewound)
            self._health.metrics.rewinds.inc()
            if upcoming:
                upcoming.outcomes.result()  # the engine finishes, nobody delivers
            return None
        return upcoming

    def _deliver(self, batch: _InFlight) -> None:
        outcomes = self._alerting.apply(batch.outcomes.result())
        began_s = time.perf_counter()
        self._transport.deliver(outcomes)
        now_s = time.perf_counter()
        self._health.count(outcomes, now_s - batch.polled_s, now_s - began_s)
