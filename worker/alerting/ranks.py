"""Where a number of a picture ranks among those of the calibration and of the stream before it.

What the stream showed is counted in bins, in memory that does not grow, and in a state that never changes: the last
pictures as they came, and those before them in counts that many states share.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from quarterturn.worker.contract.usual import BINS, KINDS, Range

_APART = 32  # pictures that are kept one by one
UNCOUNTED = 255
"""Instead of a bin: the number does not count."""

_BELOW = [bytes([*range(n), UNCOUNTED]) for n in range(BINS + 1)]
_ABOVE = [bytes([*range(n + 1, BINS), UNCOUNTED]) for n in range(BINS)]
_NOT_BELOW = [bytes([*range(n, BINS), UNCOUNTED]) for n in range(BINS + 1)]


@dataclass(frozen=True, slots=True)
class Past:
    """What the pictures of one product showed before.

    `below[q]` (BINS + 1,) counts those in the first so many bins; `recent` (n, Q) are the bins of the last pictures,
    which are not among them.
    """

    below: tuple[array[int], ...] = tuple(array("I", bytes(4 * (BINS + 1))) for _ in KINDS)
    recent: bytes = b""

    def and_one_more(self, bins: Sequence[int]) -> Past:
        """With a picture whose (Q,) numbers belong to these bins, or are `UNCOUNTED`."""
        recent = self.recent + bytes(bins)
        if len(recent) < _APART * len(KINDS):
            return Past(self.below, recent)
        return Past(tuple(_with(one, recent[q :: len(KINDS)]) for q, one in enumerate(self.below)))

    def ranks(self, quantity: int, value: float, usual: Range) -> tuple[float, float]:
        """The shares of calibration and stream that are as high, and as low, as `value`, itself counted.

        The first is small if the q-th quantity has risen, the second if it has fallen. They are the exact ranks or
        more, also in a stream that wanders by `usual.finest`: each number counts that may be as high or as low, by the
        wander of both, or by its bin.
        """
        values, edges, wander = usual.values, usual.edges, usual.finest
        before, recent = self.below[quantity], self.recent[quantity :: len(KINDS)]
        low, high = bisect_right(edges, value - 2 * wander), bisect_right(edges, value + 2 * wander)
        above = len(values) - bisect_left(values, value - wander)
        above += before[-1] - before[low] + len(recent.translate(None, _BELOW[low]))
        below = bisect_right(values, value + wander)
        below += before[high + 1] + len(recent.translate(None, _ABOVE[high]))
        every = 1 + len(values) + before[-1] + len(recent) - recent.count(UNCOUNTED)
        return (1 + above) / every, (1 + below) / every


def _with(below: array[int], bins: bytes) -> array[int]:
    """The counts with those of some more pictures."""
    return array("I", [count + len(bins.translate(None, _NOT_BELOW[n])) for n, count in enumerate(below)])
