"""Which records of a partition are settled: all before a position, and some behind it."""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from typing import Protocol

from quarterturn.worker.messages.settled import Settled


class Remembered(Protocol):
    """A record that is not forgotten; `settled`: its part's result is published."""

    @property
    def settled(self) -> bool:
        """See above."""
        ...


class Marks:
    """The records of one partition, in order, and those of them that are remembered.

    Whoever reads on from a `Settled` needs nothing else to know what the one before knew: whatever is not forgotten is
    read again.
    """

    def __init__(self, start: Settled) -> None:
        """`start` is what was committed; anything that is no such text marks nothing."""
        self._begin, self._done = start.position, _decoded(start.done)
        self._end = start.position
        self._left: OrderedDict[int, Remembered] = OrderedDict()

    @property
    def span(self) -> int:
        """From the oldest record that is remembered to the newest that was read."""
        return self._end - self._position

    @property
    def oldest(self) -> Remembered:
        """The first that is remembered."""
        return next(iter(self._left.values()))

    def read(self, offset: int) -> bool:
        """The record at `offset` is read; returns whether it was settled already as reading began."""
        self._end = offset + 1
        index = offset - self._begin
        return 0 <= index < 8 * len(self._done) and bool(self._done[index // 8] >> index % 8 & 1)

    def remember(self, offset: int, record: Remembered) -> None:
        """Read it again after a restart, until it is forgotten."""
        self._left[offset] = record

    def forget(self, offset: int) -> None:
        """It need not be read again."""
        del self._left[offset]

    def settled(self) -> Settled:
        """What is to be committed now; of records that are still to be read again that which was known before."""
        position = self._position
        not_settled = bytearray((self._end - position) // 8 + 1)
        for offset, record in self._left.items():
            if not record.settled:
                not_settled[(offset - position) // 8] |= 1 << (offset - position) % 8
        done = (1 << self._end - position) - 1 & ~int.from_bytes(not_settled, "little")
        done |= int.from_bytes(self._done, "little") >> self._end - self._begin << self._end - position
        text = base64.urlsafe_b64encode(done.to_bytes((done.bit_length() + 7) // 8, "little"))
        return Settled(position, text.decode().rstrip("="))

    @property
    def _position(self) -> int:
        return next(iter(self._left), self._end)


def _decoded(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""
