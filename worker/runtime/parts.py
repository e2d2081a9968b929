"""`quarterturn parts` at work: verdicts are read, grouped by part, and results of parts are delivered."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.messages.parts import PartData
from quarterturn.worker.messages.settled import Settled
from quarterturn.worker.parts.grouping import Grouping
from quarterturn.worker.parts.merging import Item, Merging
from quarterturn.worker.parts.seen import read_seen
from quarterturn.worker.runtime.part_metrics import PartMetrics
from quarterturn.worker.runtime.server import HealthServer
from quarterturn.worker.runtime.vitals import Vitals
from quarterturn.worker.settings.parts import PartsSettings
from quarterturn.worker.settings.worker import WorkerSettings
from quarterturn.worker.transport.base import RewoundError

if TYPE_CHECKING:
    from quarterturn.worker.transport.kafka.parts import PartsTransport, Result

log = logging.getLogger(__name__)

_MOST = 500  # records of a poll
_POLL_S = 0.1
_COMMIT_S = 5.0  # how often positions are committed without a result


class PartsService:
    """Moves verdicts from the transport through the grouping, and the results of parts back; one thread."""

    def __init__(
        self, transport: PartsTransport, settings: PartsSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._transport, self._settings, self._clock = transport, settings, clock
        self._begun: int | None = None
        self._committed: Mapping[int, Settled] = {}
        self._committed_s = clock()
        self._forget()
        self.health = Vitals(partial(PartMetrics, are_open=lambda: self._grouping.open))

    def run(self, stop: threading.Event) -> None:
        """Make results until `stop` is set. Parts that are open then are begun anew by whoever comes next.

        Raises:
            UnavailableError: the broker is gone for too long.
        """
        with self.health.showing(self._transport):
            while not stop.is_set():
                self.health.progress()
                try:
                    self._step()
                except RewoundError as rewound:
                    log.warning("%s; what is not settled will be polled again", rewound)
                    self.health.metrics.rewinds.inc()
                    self._begun = None

    def leave(self) -> None:
        """Let another one take over though this one may be stuck; it must end then. Any thread may call it."""
        self._transport.leave()

    def _step(self) -> None:
        polled = self._transport.poll(_MOST, _POLL_S)
        if polled.begun != self._begun:
            self._begun = polled.begun
            self._forget(self._transport.begun())
        for result in polled.results:
            self._merging.put(self._item(result))
        now_s = self._clock()
        parts: list[PartData] = []
        for item in self._merging.ready(polled.more, now_s):
            made, ignored = self._grouping.take(item, now_s)
            parts += made
            if ignored is not None:
                self.health.metrics.ignore(ignored)
        if not polled.results and not self._merging.waits(polled.more, now_s):
            parts += self._grouping.silence(now_s)
        self._deliver(parts, now_s)

    def _deliver(self, parts: Sequence[PartData], now_s: float) -> None:
        if not parts and now_s - self._committed_s < _COMMIT_S:
            return
        self._committed_s = now_s
        settled = self._grouping.settled()
        if parts or settled != self._committed:
            self._transport.deliver(parts, settled)
            self._committed = settled
            self.health.metrics.count(parts)

    def _forget(self, begun: Mapping[int, Settled] | None = None) -> None:
        """Begin with what was settled, by partition."""
        self._committed = begun or {}
        self._grouping, self._merging = Grouping(self._settings, self._committed), Merging()

    def _item(self, result: Result) -> Item:
        return Item(result.partition, result.offset, read_seen(result.kind, result.value, self._settings))


@contextmanager
def build_parts(settings: WorkerSettings) -> Iterator[PartsService]:
    """What makes the results of parts, ready to run; everything is closed on leaving the block.

    Raises:
        QuarterturnError: a service or a setting does not fit; one sentence.
    """
    from quarterturn.worker.transport.kafka.parts import PartsTransport

    if settings.parts is None:
        raise ConfigError("parts: nothing is set; say there which cameras see a part, as docs/parts.md does")
    kafka = settings.require_kafka("parts are put together from the verdicts topic of a line")
    with ExitStack() as stack:
        transport = stack.enter_context(closing(PartsTransport(kafka)))
        service = PartsService(transport, settings.parts)
        if settings.http is not None:
            http = settings.http.model_copy(update={"port": settings.parts.port})
            stack.enter_context(HealthServer(service.health, http))
        yield service
