"""How we stand with the broker and the group: what others may see of it at any time, and what the log says."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka.connection import LASTING_ERRORS, text

log = logging.getLogger(__name__)

_SILENT_S = 5.0  # an answer that takes longer is told of; what waits for it may wait for twice as long
_LOOK_S = 0.25
_PAUSE_S = 0.1  # after a fault, which may show at once


class Contact:
    """Whether the broker answers, and whether we are a member of the group.

    One thread uses the broker and says here how that goes. A thread of this object's own sees when it takes too long:
    the other one may be waiting.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._servers, self._group, self._patience_s = (
            settings.bootstrap_servers,
            settings.group,
            settings.give_up_after_s,
        )
        self.answered_s = self._outside_since_s = time.monotonic()
        self._asked_s: float | None = None
        self._trouble: str | None = None
        self._trouble_since_s = 0.0
        self._assigned: int | None = None
        self._waited = False
        self._changing = threading.Lock()
        self._closing = threading.Event()
        threading.Thread(target=self._watch, name="kafka-contact", daemon=True).start()

    @property
    def assigned(self) -> int | None:
        """How many partitions we own; None: we are no member of the group."""
        return self._assigned

    @property
    def state(self) -> str:
        """ "ok", or a sentence on what is waited for."""
        if (trouble := self._trouble) is not None:
            return f"{trouble}, for {time.monotonic() - self._trouble_since_s:.0f} s now"
        return "ok" if self._assigned is not None else f"waiting for the group '{self._group}' to take this worker in"

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """An answer is due while the block lasts."""
        self._asked_s = time.monotonic()
        try:
            yield
        finally:
            self._asked_s = None

    def answered(self) -> None:
        """The broker is there."""
        with self._changing:
            self.answered_s = time.monotonic()
            if self._trouble is not None:
                log.info("Kafka works again after %.1f s", self.answered_s - self._trouble_since_s)
                self._trouble = None

    def failed(self, error: Exception) -> None:
        """Bridge a fault for as long as the settings allow.

        Raises:
            UnavailableError: that was long enough, or no waiting helps.
        """
        now_s = time.monotonic()
        self._begin_trouble(text(error), now_s)
        tried_s = now_s - self._trouble_since_s
        if isinstance(error, LASTING_ERRORS) or tried_s > self._patience_s:
            raise UnavailableError(
                f"Kafka at {self._servers}: {text(error)}, after trying for {tried_s:.0f} s; "
                "check the broker, its log and the permissions of this client"
            ) from error
        time.sleep(_PAUSE_S)

    def joined(self, partitions: int) -> None:
        """The group has given us so many partitions."""
        self._assigned = partitions
        self._waited = False

    def out(self) -> None:
        """We are no member of the group, or not any more."""
        if self._assigned is not None:
            self._outside_since_s = time.monotonic()
            self._assigned = None

    def close(self) -> None:
        """End the watching."""
        self._closing.set()

    def _begin_trouble(self, what: str, since_s: float) -> None:
        with self._changing:
            if self._trouble is None:
                self._trouble, self._trouble_since_s = what, since_s
                log.warning("Kafka at %s: %s; trying again for %g s", self._servers, what, self._patience_s)

    def _watch(self) -> None:
        while not self._closing.wait(_LOOK_S):
            now_s, asked_s = time.monotonic(), self._asked_s
            if asked_s is not None and now_s - asked_s > _SILENT_S:
                self._begin_trouble(f"no answer within {_SILENT_S:g} s", asked_s)
            outside = self._assigned is None and self._trouble is None
            if outside and not self._waited and now_s - self._outside_since_s > _SILENT_S:
                self._waited = True
                log.warning(
                    "group %s: still waiting to be taken in; that lasts until its other workers have agreed, or the "
                    "dead among them are given up",
                    self._group,
                )
