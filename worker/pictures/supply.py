"""Whether good pictures are enough for a promise, and how many to add: before anything is trained or fitted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from quarterturn.worker.contract.splits import groups_of, hold_out, split_held_out


def calibrating(pictures: Sequence[Path], holdout: float | None, group: str | None = None) -> int:
    """How many calibration scores one product's good pictures give: one for each part that calibrates.

    `holdout` is the share that training holds out; None: all are held out, in a folder of their own. `group` says which
    pictures show the same part.
    """
    held_out = pictures if holdout is None else hold_out(pictures, holdout, group)[1]
    return len(groups_of(split_held_out(held_out, group)[1], group))


def to_add(pictures: Sequence[Path], missing: int, holdout: float | None, group: str | None = None) -> int:
    """The fewest good pictures with which so many more calibrate; found by trying the split itself.

    With a `group` it is the number of parts to add, with about as many pictures of each as of those that are there.
    """
    there = len(groups_of(pictures, group))
    wanted = _calibrating(there, holdout) + missing
    surely = 1
    while _calibrating(there + surely, holdout) < wanted:
        surely *= 2
    return bisect_left(range(surely), True, key=lambda more: _calibrating(there + more, holdout) >= wanted)


def to_add_to_a_bank(scores: int, missing: int, holdout: float) -> int:
    """As `to_add`, where only the number of a bank's calibration scores is known: enough, if not always the fewest."""
    at_least = to_add([], scores, holdout)
    return to_add([], scores + missing, holdout) - at_least


def _calibrating(count: int, holdout: float | None) -> int:
    return calibrating([Path(f"{number}") for number in range(count)], holdout)
