"""How often a camera has sent the same picture in a row: a sensor's noise never repeats, a frozen camera's does."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

from quarterturn.worker.contract.arrays import Frames
from quarterturn.worker.messages.frames import Position
from quarterturn.worker.messages.history import History


class _Seen(NamedTuple):
    digest: int
    times: int


def digest_of(frames: Frames) -> int:
    """A checksum of the (T, S, S, 3) tiles of a picture: of all that the engine sees of it.

    Two pictures that differ have the same by chance once in 2³² times. It is no protection against somebody who wants
    pictures to count as repeated; whoever may publish as a camera may repeat them.
    """
    return zlib.crc32(np.ascontiguousarray(frames).data)


class Repeats:
    """Counts, for each camera and partition, how often the last picture came in a row; of one thread.

    A frame that comes again is counted as it was the first time. What a process has not seen, such as the frames before
    a rebalance, it does not count.
    """

    def __init__(self) -> None:
        self._history: History[_Seen] = History()

    def times(self, camera: str, position: Position, digest: int) -> int:
        """How often the picture at `position` came in a row up to now, itself included."""
        last = self._history.before(camera, position)
        times = last.times + 1 if last and last.digest == digest else 1
        self._history.put(camera, position, _Seen(digest, times))
        return times
