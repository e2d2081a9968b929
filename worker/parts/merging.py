"""The records of several partitions in the order of their times, as far as they are there."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from quarterturn.worker.parts.seen import Ignored, Seen

_PATIENCE_S = 1.0
"""With a partition that has more and gives nothing: a transaction is open there."""


@dataclass(frozen=True, slots=True)
class Item:
    """A record, and where it was read."""

    partition: int
    offset: int
    seen: Seen | Ignored


class Merging:
    """Gives records by time, so that a partition that is read first does not leave the parts of others behind.

    Each partition's own order is kept.
    """

    def __init__(self) -> None:
        self._heads: dict[int, deque[Item]] = {}
        self._lacking_since_s: float | None = None

    def put(self, item: Item) -> None:
        """A record was read."""
        self._heads.setdefault(item.partition, deque()).append(item)

    def ready(self, more: Collection[int], now_s: float) -> Iterator[Item]:
        """What may be taken; a partition in `more`, of which further records are on their way, is waited for."""
        while heads := [queue for queue in self._heads.values() if queue]:
            if self.waits(more, now_s):
                return
            yield min(heads, key=_time).popleft()

    def waits(self, more: Collection[int], now_s: float) -> bool:
        """Whether the next record of a partition in `more` is still to come; till then nothing is known to be over."""
        if not any(not self._heads.get(partition) for partition in more):
            self._lacking_since_s = None
            return False
        if self._lacking_since_s is None:
            self._lacking_since_s = now_s
        return now_s - self._lacking_since_s < _PATIENCE_S


def _time(queue: deque[Item]) -> float:
    seen = queue[0].seen
    return seen.time_s if isinstance(seen, Seen) else float("-inf")
