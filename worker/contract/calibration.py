"""Thresholds with a promise: split-conformal quantiles of the scores of held-out good parts.

For n exchangeable scores and a new good part, the ⌈(n+1)(1−α)⌉-th smallest score is exceeded with probability at
most α, whatever the distribution (Vovk et al. 2005; Angelopoulos and Bates, arXiv 2107.07511, eq. 1).
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.errors import DataError


def pictures_needed(overkill: float) -> int:
    """The smallest number of calibration scores for which the promise `overkill` can be kept: ⌈1/α⌉ − 1."""
    return math.ceil(1 / Fraction(str(overkill))) - 1


def conformal_threshold(scores: npt.ArrayLike, overkill: float, what: str = "calibration") -> float:
    """The ⌈(n+1)(1−α)⌉-th smallest of n `scores` of good parts, α = `overkill`.

    Raises:
        DataError: n is too small for this α; the text says how many are missing. `what` names the scores in it.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64).ravel())
    rank = math.ceil((len(ordered) + 1) * (1 - Fraction(str(overkill))))
    if rank > len(ordered):
        needed = pictures_needed(overkill)
        allowed = math.ceil(10_000 / (len(ordered) + 1)) / 10_000  # rounded up, so that the rate named does suffice
        raise DataError(
            f"{what}: an overkill of {overkill:.3%} needs {needed} calibration pictures (three quarters of those held "
            f"out), but there are {len(ordered)}; add {needed - len(ordered)} or allow an overkill of {allowed:.2%} "
            "or more"
        )
    return float(ordered[rank - 1])


def conformal_p_value(scores: npt.ArrayLike, score: float) -> float:
    """The share (1 + #{scores >= score}) / (n + 1): for a good part it is at most α with probability at most α."""
    calibrated = np.asarray(scores)
    return float((1 + np.count_nonzero(calibrated >= score)) / (calibrated.size + 1))


def promise(scores: int, overkill: float) -> str:
    """The guarantee behind a threshold from `scores` calibration scores, in words."""
    return (
        f"at most {overkill:.2%} of good parts are rejected on average, guaranteed from {scores} held-out good "
        "pictures as long as new good parts look like those"
    )
