"""Thresholds with a promise: split-conformal quantiles of the scores of held-out good parts.

For n exchangeable scores and a new good part, the ⌈(n+1)(1−α)⌉-th smallest score is exceeded with probability at
most α, whatever the distribution (Vovk et al. 2005; Angelopoulos and Bates, arXiv 2107.07511, eq. 1). That is the k-th
largest, k = ⌊(n+1)α⌋. Over calibrations, the share of good parts beyond it is distributed as Beta(k, n+1−k) (ibid.,
section 3.2), so it is k/(n+1) on average; with ties among the scores, it is smaller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.chance import beta_quantile
from quarterturn.worker.contract.errors import DataError

OVERKILL = 0.01
"""The overkill that is asked where nobody says."""

CONFIDENCE = 0.95
"""Of every bound and interval that is printed."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What `pictures` calibration scores guarantee, where an overkill of `asked` is asked.

    `average` is the share of good parts that is rejected at most, on average over calibrations; `bound` is the share
    that this one calibration rejects at most, with 95% confidence.
    """

    pictures: int
    asked: float
    average: float
    bound: float

    @classmethod
    def of(cls, pictures: int, asked: float) -> Promise:
        """The promise of the threshold that `conformal_threshold` makes of as many scores.

        Raises:
            ValueError: there are too few of them.
        """
        rank = _from_top(pictures, asked)
        return cls(pictures, asked, rank / (pictures + 1), beta_quantile(CONFIDENCE, rank, pictures + 1 - rank))

    @property
    def rank(self) -> int:
        """The threshold is the so many-th largest of the scores."""
        return _from_top(self.pictures, self.asked)

    @property
    def sentence(self) -> str:
        """The promise in words."""
        return (
            f"at most {at_most(self.average)} of good parts are rejected on average (asked for: "
            f"{100 * self.asked:g}%), and with {CONFIDENCE:.0%} confidence at most {at_most(self.bound)} by this "
            f"calibration, guaranteed from {self.pictures} held-out good pictures as long as new good parts look like "
            "those"
        )


def promises(bank: Bank, overkill: float, fixed: Mapping[str, float]) -> dict[str, Promise]:
    """The guarantee behind each calibrated threshold; products with a `fixed` one have none."""
    return {
        product: Promise.of(len(calibration.scores), overkill)
        for product, calibration in zip(bank.products, bank.calibration, strict=True)
        if product not in fixed
    }


def pictures_needed(overkill: float) -> int:
    """The smallest number of calibration scores for which the promise `overkill` can be kept: ⌈1/α⌉ − 1."""
    return math.ceil(1 / Fraction(str(overkill))) - 1


def smallest_promise(pictures: int) -> float:
    """The smallest overkill that so many calibration scores can promise, 1/(n+1), rounded up to a hundredth of 1%."""
    return math.ceil(10_000 / (pictures + 1)) / 10_000


def too_few(what: str, pictures: int, overkill: float, remedy: str, file: str) -> DataError:
    """The error that says that `pictures` calibration scores cannot promise `overkill`, and what to do.

    `file` is that of the settings which ask for this overkill.
    """
    allow = f", or set overkill: {smallest_promise(pictures):.4g} in {file}" if pictures else ""
    return DataError(
        f"{what}: an overkill of {overkill:.3%} needs {pictures_needed(overkill)} calibration pictures, but there are "
        f"{pictures}; {remedy}{allow}"
    )


def conformal_threshold(scores: npt.ArrayLike, overkill: float) -> float:
    """The ⌈(n+1)(1−α)⌉-th smallest of n `scores` of good parts, α = `overkill`.

    Raises:
        ValueError: n is too small for this α.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64).ravel())
    return float(ordered[-_from_top(len(ordered), overkill)])


def conformal_p_value(scores: npt.ArrayLike, score: float) -> float:
    """The share (1 + #{scores >= score}) / (n + 1): for a good part it is at most α with probability at most α."""
    calibrated = np.asarray(scores)
    return float((1 + np.count_nonzero(calibrated >= score)) / (calibrated.size + 1))


def _from_top(pictures: int, overkill: float) -> int:
    """Which of so many scores the threshold is, counted from the largest: k = ⌊(n+1)α⌋.

    Raises:
        ValueError: there are too few of them.
    """
    rank = math.floor((pictures + 1) * Fraction(str(overkill)))
    if rank < 1:
        raise ValueError(f"{pictures} calibration pictures promise no overkill of {overkill}")
    return rank


def at_most(share: float) -> str:
    """A share as a bound is printed: rounded up to a hundredth of 1%, so that it is true."""
    return f"{math.ceil(share * 10_000 - 1e-9) / 10_000:.2%}"  # less a trifle, or 2% would become 2.01%
