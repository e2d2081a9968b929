"""What every service knows of itself: whether it goes on, whether it is ready, what is degraded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from quarterturn.worker.runtime.metrics import CommonMetrics
from quarterturn.worker.transport.base import Standing, standing_of

_NOWHERE = Standing(state="the worker does not run", assigned=None)

M_co = TypeVar("M_co", bound=CommonMetrics, covariant=True)


class Vitals(Generic[M_co]):
    """The states of a service, and its metrics, which are made of what to ask at every scrape. Thread-safe.

    `states` are named findings such as {"bank store": "unreachable since ..."}; anything but "ok" is shown in
    `/healthz`, which stays green: a worker that still works must not be restarted for it. It turns red when the
    worker neither finishes a batch nor finds that nothing waits.
    """

    def __init__(self, make_metrics: Callable[[Callable[[], Standing], Callable[[], bool]], M_co]) -> None:
        self._progress_s = 0.0
        self._states: dict[str, Callable[[], str]] = {}
        self._transport: object | None = None
        self.metrics = make_metrics(self._standing, lambda: self.ready)

    @property
    def ready(self) -> bool:
        """Whether the work is done as it comes."""
        return self.lacks() is None

    def lacks(self) -> str | None:
        """What is missing to be ready: the work, or the transport's consent; None: nothing is."""
        state = self._standing().state
        return None if state == "ok" else state

    @contextmanager
    def showing(self, transport: object) -> Iterator[None]:
        """Show the state of the work while the block lasts."""
        self.progress()
        self._transport = transport
        if name := standing_of(transport).name:
            self.watch(name, lambda: standing_of(transport).state)
        try:
            yield
        finally:
            self._transport = None

    def progress(self) -> None:
        """Say that the worker goes on: it finished a batch, or found nothing to do."""
        self._progress_s = time.monotonic()

    def stalled_s(self) -> float:
        """Seconds since the last progress; 0 before and after the work."""
        return time.monotonic() - self._progress_s if self._transport is not None else 0.0

    def watch(self, part: str, state: Callable[[], str]) -> None:
        """Show the state of `part` from now on; "ok" is the one good state."""
        self._states[part] = state
        self.metrics.watch(part, lambda: state() != "ok")

    def states(self) -> dict[str, str]:
        """The present state of every part."""
        return {part: state() for part, state in self._states.items()}

    def _standing(self) -> Standing:
        return _NOWHERE if (transport := self._transport) is None else standing_of(transport)
