"""Which good pictures are held out of training, and which of these choose and calibrate."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path


def hold_out(pictures: Sequence[Path], share: float) -> tuple[list[Path], list[Path]]:
    """Split one product's pictures into (to learn from, held out), the same way every time.

    The order is that of the hash of the file names, so training and bank fitting agree without a list on disk, and
    neighbouring numbers fall on both sides. `ceil(share · n)` are held out, never all.
    """
    ranked = _ranked(pictures)
    count = min(math.ceil(Fraction(str(share)) * len(ranked)), len(ranked) - 1)
    return sorted(ranked[count:]), sorted(ranked[:count])


def split_held_out(pictures: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Split held-out pictures into (a quarter to weigh detectors by, the rest to calibrate with), always the same way.

    What was weighed on a picture may not be calibrated on it, else the threshold would promise too much. At least one
    picture is to weigh by, and where there are two or more at least one to calibrate with.
    """
    ranked = _ranked(pictures)
    count = max(1, len(ranked) // 4)
    return sorted(ranked[:count]), sorted(ranked[count:])


def _ranked(pictures: Sequence[Path]) -> list[Path]:
    return sorted(pictures, key=lambda path: hashlib.sha256(path.name.encode()).digest())
