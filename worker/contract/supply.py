"""Whether good pictures are enough for a promise, and how many to add: before anything is trained or fitted."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from quarterturn.worker.contract.calibration import pictures_needed
from quarterturn.worker.contract.pictures import hold_out, split_held_out


def calibrating(pictures: Sequence[Path], holdout: float | None) -> int:
    """How many of one product's good pictures give a calibration score.

    `holdout` is the share that training holds out; None: all are held out, in a folder of their own.
    """
    if len(pictures) < 2:
        return 0  # one to learn from, or to weigh detectors by
    held_out = pictures if holdout is None else hold_out(pictures, holdout)[1]
    return len(split_held_out(held_out)[1])


def to_add(pictures: Sequence[Path], holdout: float | None, overkill: float) -> int:
    """How many good pictures are missing for a promise of `overkill`: the fewest with which the split leaves enough."""
    return _missing(pictures, holdout, pictures_needed(overkill))


def to_add_to_a_bank(scores: int, holdout: float, overkill: float) -> int:
    """As `to_add`, where only the number of a bank's calibration scores is known: enough, if not always the fewest."""
    at_least = _stand_ins(_missing([], holdout, scores))
    return to_add(at_least, holdout, overkill)


def _missing(pictures: Sequence[Path], holdout: float | None, wanted: int) -> int:
    """By trying the split itself, with stand-ins beside the pictures."""
    surely = 2 * math.ceil(4 * (wanted + 2) / (3 * (holdout or 1)))
    added = _stand_ins(surely)
    return bisect_left(range(surely), True, key=lambda more: calibrating([*pictures, *added[:more]], holdout) >= wanted)


def _stand_ins(count: int) -> list[Path]:
    return [Path(f"stand-in/{number}") for number in range(count)]
