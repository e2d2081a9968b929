"""What the worker knows of itself: whether it goes on, whether it is ready, what is degraded, what is odd."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.alarms import Drift
from quarterturn.worker.messages.events import DeadLetter, Outcome, Verdict, ahead_s
from quarterturn.worker.messages.notices import Notice
from quarterturn.worker.runtime.metrics import Metrics
from quarterturn.worker.runtime.vitals import Vitals
from quarterturn.worker.transport.base import Transport

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = logging.getLogger(__name__)

_SAID = 1000  # sentences about a camera; whoever may publish frames may make up names
_AHEAD_S = 1.0  # of each other; clocks that are kept are closer together


class Health(Vitals[Metrics]):
    """The worker's states and counters, see Vitals. `cameras` are those that the settings list."""

    def __init__(self, cameras: Collection[str] = ()) -> None:
        super().__init__(partial(Metrics, cameras))
        self._listed = frozenset(cameras)
        self._inspector: Inspector | None = None
        self._said: set[tuple[Notice, str]] = set()
        self._saying = threading.Lock()

    @property
    def registry(self) -> CollectorRegistry:
        """Where Prometheus finds the metrics."""
        return self.metrics.registry

    def lacks(self) -> str | None:
        """What is missing to be ready: the work, a bank, or the transport's consent; None: nothing is."""
        if (inspector := self._inspector) is not None and inspector.bank is None:
            return "no bank is in service"
        return super().lacks()

    @contextmanager
    def working(self, transport: Transport, inspector: Inspector) -> Iterator[None]:
        """Show the state of both while the block lasts."""
        self._inspector = inspector
        try:
            with self.showing(transport):
                yield
        finally:
            self._inspector = None

    def count(self, outcomes: Sequence[Outcome], since_poll_s: float, deliver_s: float) -> None:
        """Count one delivered batch, and say what is wrong or odd about its frames."""
        self.metrics.count(outcomes, since_poll_s, deliver_s)
        for outcome in outcomes:
            camera = outcome.data.camera
            if isinstance(outcome, DeadLetter):
                reason, message = outcome.data.reason, outcome.data.message
                log.warning("%s cam=%s: %s: %s", outcome.position, camera or "unknown", reason, message)
            if isinstance(outcome, Verdict):
                for kind, text in outcome.notices.items():
                    self.notice(kind, outcome.data.camera, f"{outcome.position}: {text}")
                for alarm in outcome.events:
                    if isinstance(alarm, Drift):
                        log.warning("%s cam=%s: drift %s: %s", outcome.position, camera, alarm.state, alarm.reason)
            if self._listed and camera and camera not in self._listed:
                self.notice("unlisted_camera", camera, f"{outcome.position}: the settings' 'cameras' do not list it")
            if (ahead := ahead_s(outcome)) > _AHEAD_S:
                text = f"{outcome.position}: captured_at is {ahead:.1f} s ahead of our clock, so its age is not known"
                self.notice("clock_ahead", camera or "unknown", f"{text}; set both clocks, by NTP")

    def notice(self, kind: Notice, camera: str, text: str) -> None:
        """Count something odd about a frame of `camera`, and say it once for each kind and camera."""
        self.metrics.notice(kind, camera)
        with self._saying:
            if (kind, camera) in self._said or len(self._said) >= _SAID:
                return
            self._said.add((kind, camera))
        log.warning("cam=%s: %s: %s (said once, counted in quarterturn_notices_total)", camera, kind, text)
