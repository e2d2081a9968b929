"""How often a camera has sent the same picture in a row: a sensor's noise never repeats, a frozen camera's does."""

from __future__ import annotations

import zlib
from collections import OrderedDict, deque
from typing import NamedTuple

import numpy as np

from quarterturn.worker.contract.arrays import Frames
from quarterturn.worker.messages.frames import Position

_CAMERAS = 1000  # that are remembered; whoever may publish frames may make up names
_FRAMES = 256  # of a camera and partition that are remembered: more than two batches, which may come again


class _Seen(NamedTuple):
    offset: int
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

    A partition's frames come in the order of their offsets; where one comes again, all from it on do, and are counted
    as they were the first time. What a process has not seen, such as the frames before a rebalance, it does not count.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str, int], deque[_Seen]] = OrderedDict()

    def times(self, camera: str, position: Position, digest: int) -> int:
        """How often the picture at `position` came in a row up to now, itself included."""
        key = (camera, position.topic, position.partition)
        seen = self._seen.setdefault(key, deque(maxlen=_FRAMES))
        self._seen.move_to_end(key)
        if len(self._seen) > _CAMERAS:
            self._seen.popitem(last=False)
        while seen and seen[-1].offset >= position.offset:
            seen.pop()
        times = seen[-1].times + 1 if seen and seen[-1].digest == digest else 1
        seen.append(_Seen(position.offset, digest, times))
        return times
