"""What the worker knows of itself: whether it goes on, whether it is ready, what is degraded, what is odd."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.alarms import Drift
from quarterturn.worker.messages.events import DeadLetter, Outcome, Verdict, ahead_s
from quarterturn.worker.messages.notices import Notice
from quarterturn.worker.runtime.metrics import Metrics
from quarterturn.worker.transport.base import Standing, Transport, standing_of

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = logging.getLogger(__name__)

_SAID = 1000  # sentences about a camera; whoever may publish frames may make up names
_AHEAD_S = 1.0  # of each other; clocks that are kept are closer together
_NOWHERE = Standing(state="the worker does not run", assigned=None)


class Health:
    """The worker's states and counters. Thread-safe.

    `states` are named findings such as {"bank store": "unreachable since ..."}; anything but "ok" is shown in
    `/healthz`, which stays green: a worker that still scores must not be restarted for it. It turns red when the
    worker neither finishes a batch nor finds that no frame waits. `cameras` are those that the settings list.
    """

    def __init__(self, cameras: Collection[str] = ()) -> None:
        self.metrics = Metrics(cameras, self._standing, lambda: self.ready)
        self._listed = frozenset(cameras)
        self._progress_s = 0.0
        self._states: dict[str, Callable[[], str]] = {}
        self._work: tuple[Transport, Inspector] | None = None
        self._said: set[tuple[Notice, str]] = set()
        self._saying = threading.Lock()

    @property
    def registry(self) -> CollectorRegistry:
        """Where Prometheus finds the metrics."""
        return self.metrics.registry

    @property
    def ready(self) -> bool:
        """Whether frames are inspected as they come."""
        return self.lacks() is None

    def lacks(self) -> str | None:
        """What is missing to be ready: the work, a bank, or the transport's consent; None: nothing is."""
        if self._work is None:
            return "the worker does not run"
        transport, inspector = self._work
        if inspector.bank is None:
            return "no bank is in service"
        standing = standing_of(transport)
        return None if standing.state == "ok" else standing.state

    @contextmanager
    def working(self, transport: Transport, inspector: Inspector) -> Iterator[None]:
        """Show the state of both while the block lasts."""
        self.progress()
        self._work = transport, inspector
        if name := standing_of(transport).name:
            self.watch(name, lambda: standing_of(transport).state)
        try:
            yield
        finally:
            self._work = None

    def progress(self) -> None:
        """Say that the worker goes on: it finished a batch, or found nothing to do."""
        self._progress_s = time.monotonic()

    def stalled_s(self) -> float:
        """Seconds since the last progress; 0 before and after the work."""
        return time.monotonic() - self._progress_s if self._work else 0.0

    def watch(self, part: str, state: Callable[[], str]) -> None:
        """Show the state of `part` from now on; "ok" is the one good state."""
        self._states[part] = state
        self.metrics.watch(part, lambda: state() != "ok")

    def states(self) -> dict[str, str]:
        """The present state of every part."""
        return {part: state() for part, state in self._states.items()}

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

    def _standing(self) -> Standing:
        return standing_of(self._work[0]) if self._work else _NOWHERE
