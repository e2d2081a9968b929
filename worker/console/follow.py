"""Two threads that bring the topics into the index: results, and what people say of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing

from quarterturn.worker.console.alarms import alarm_of
from quarterturn.worker.console.figures import furthest
from quarterturn.worker.console.index import Index
from quarterturn.worker.console.rows import row_of
from quarterturn.worker.contract.errors import QuarterturnError
from quarterturn.worker.contract.times import now
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka.feedback import FeedbackTopic
from quarterturn.worker.transport.kafka.following import ResultFollower

log = logging.getLogger(__name__)

_POLL_S = 0.5
_PAUSE_S = 1.0  # before the broker is tried again
_LOOK_S = 2.0  # between two looks at what waits for the workers


class Follower:
    """Follows the topics of `settings` into `index` while in a `with` block, through outages of the broker.

    It reads outside any consumer group and commits nothing: workers and other consoles do not notice it.

    Attributes:
        state: "ok", or a sentence on what is wrong.
        behind: how many records are still to be read for the index to be up to date.
        skipped: how many records were no results.
        lag: how many frames of each partition have no result yet; None: not known.
    """

    def __init__(self, settings: KafkaSettings, index: Index, keep: int) -> None:
        self._settings, self._index, self._keep = settings, index, keep
        self._states = {"results": "the broker has not answered yet", "feedback": "ok"}
        self.behind = self.skipped = 0
        self.lag: dict[int, int] | None = None
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._again, args=(name, follow), name=f"console-{name}", daemon=True)
            for name, follow in (("results", self._results), ("feedback", self._feedback))
        ]

    @property
    def state(self) -> str:
        """See the class."""
        return next((state for state in self._states.values() if state != "ok"), "ok")

    def __enter__(self) -> Follower:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=5.0)

    def _again(self, name: str, follow: Callable[[], None]) -> None:
        """`follow` until told to stop; after a fault once more, from where the index ends."""
        while not self._stopping.is_set():
            try:
                follow()
            except QuarterturnError as error:
                self._failed(name, str(error))
            except Exception as error:  # noqa: BLE001 - a thread's boundary: shown in `state`, and tried again
                self._failed(name, f"{type(error).__name__}: {error}")
            self._stopping.wait(_PAUSE_S)

    def _failed(self, name: str, why: str) -> None:
        if self._states[name] == "ok" or not self._states[name].startswith(why):
            log.warning("%s: %s; trying again every %g s", name, why, _PAUSE_S)
            self._states[name] = f"{why} (since {now()})"

    def _results(self) -> None:
        known = self._index.places()
        with closing(ResultFollower(self._settings, self._keep, known)) as reader:
            if known and not reader.knows_any_of(known):
                log.warning("the index is of other topics; it is made anew")
                self._index.clear()
            looked_s = 0.0
            while not self._stopping.is_set():
                if said := reader.poll(_POLL_S):
                    self._take(said, reader.places())
                if time.monotonic() - looked_s > _LOOK_S:  # it asks the broker, so it fails where that is gone
                    self.behind, waiting = reader.behind(), reader.frames()
                    done = furthest(self._index, self._settings.topics.frames)
                    self.lag = {n: max(0, end - done[n] - 1) for n, end in waiting.items() if n in done}
                    looked_s = time.monotonic()
                    self._states["results"] = "ok"

    def _take(self, said: list[object], places: dict[str, int]) -> None:
        """Alarms first: one says less than a result, and would be taken for a frame that nobody inspected."""
        alarms = [alarm_of(data) for data in said]
        rows = [row_of(data) for data, alarm in zip(said, alarms, strict=True) if alarm is None]
        self.skipped += rows.count(None)
        self._index.add([row for row in rows if row is not None], places)
        self._index.alarm([alarm for alarm in alarms if alarm is not None])

    def _feedback(self) -> None:
        with closing(FeedbackTopic(self._settings)) as topic:
            self._index.judge(topic.read().values())
            self._states["feedback"] = "ok"
            while not self._stopping.is_set():
                self._index.judge(topic.poll(_POLL_S))
