"""Figures of merit of a detector, from its verdicts on labelled pictures.

Everywhere: `good` are the scores of good parts, `bad` those of defective ones, both (n,) float64; a higher score is
worse. A figure that needs a kind of part of which there is none is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.chance import share_between
from quarterturn.worker.contract.limits import times_limit
from quarterturn.worker.fitting.normal import auroc
from quarterturn.worker.messages.events import AlertKind
from quarterturn.worker.pictures.sets import GOOD

Scores = npt.NDArray[np.float64]

OVERKILLS = (0.01, 0.05)  # at which the recall is stated


@dataclass(frozen=True, slots=True)
class Inspected:
    """The verdict on one labelled picture.

    `defect` is "good" for a good part, `nearest` the product it looks like. `heat` (h, w) float32 says in thresholds
    where it deviates; None where no detector sees places. `masks` are the files that together show a bad part's defect.
    """

    path: Path
    product: str
    defect: str
    score: float
    threshold: float
    alert: AlertKind | None
    nearest: str
    heat: Array | None = field(default=None, repr=False, compare=False)
    masks: Sequence[Path] = field(default=(), compare=False)

    @property
    def is_good(self) -> bool:
        """Whether the part is labelled good."""
        return self.defect == GOOD

    @property
    def ratio(self) -> float:
        """The score in thresholds: comparable between products, an alert beyond 1."""
        return times_limit(self.score, self.threshold)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a set of verdicts is worth.

    `overkill` and `escape` count the alerts at the thresholds in service: the share of good parts rejected, and of bad
    parts passed; the true shares lie between those of `overkill_between` and `escape_between` with 95% confidence. The
    others look at the ranking alone; `recall_at` belongs to `OVERKILLS`, by thresholds chosen on these very pictures,
    and so promises nothing.
    """

    good: int
    bad: int
    auroc: float | None
    average_precision: float | None
    overkill: float | None
    overkill_between: tuple[float, float] | None
    escape: float | None
    escape_between: tuple[float, float] | None
    recall_at: Mapping[float, float | None]

    @classmethod
    def of(cls, inspected: Sequence[Inspected]) -> Figures:
        """The figures of these verdicts; scores of several products are compared in thresholds."""
        good, bad = split_ratios(inspected)
        rejected = sum(one.alert is not None for one in inspected if one.is_good)
        passed = sum(one.alert is None for one in inspected if not one.is_good)
        return cls(
            good=len(good),
            bad=len(bad),
            auroc=auroc(good, bad) if len(good) and len(bad) else None,
            average_precision=average_precision(good, bad),
            overkill=share(rejected, len(good)),
            overkill_between=share_between(rejected, len(good)) if len(good) else None,
            escape=share(passed, len(bad)),
            escape_between=share_between(passed, len(bad)) if len(bad) else None,
            recall_at={overkill: recall_at(good, bad, overkill) for overkill in OVERKILLS},
        )


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A picture that could not be inspected, and why; on a line it would be a dead letter."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Curve:
    """A receiver operating characteristic: at threshold t, `overkill` of the good and `recall` of the bad score >= t.

    All three are (m,), from the highest threshold (nothing is rejected) to the lowest (everything is).
    """

    thresholds: Scores
    overkill: Scores
    recall: Scores


def split_ratios(inspected: Sequence[Inspected]) -> tuple[Scores, Scores]:
    """The scores in thresholds, of the good parts and of the bad ones."""
    good = np.array([one.ratio for one in inspected if one.is_good], np.float64)
    bad = np.array([one.ratio for one in inspected if not one.is_good], np.float64)
    return good, bad


def average_precision(good: Scores, bad: Scores) -> float | None:
    """The area under precision over recall, as a sum of steps: Σ (Rₙ − Rₙ₋₁) Pₙ over falling thresholds."""
    if not len(good) or not len(bad):
        return None
    curve = roc(good, bad)
    caught, false = curve.recall[1:] * len(bad), curve.overkill[1:] * len(good)
    return float(np.sum(np.diff(curve.recall) * caught / (caught + false)))


def recall_at(good: Scores, bad: Scores, overkill: float) -> float | None:
    """The largest share of bad parts found by a threshold that rejects at most `overkill` of these good parts."""
    if not len(good) or not len(bad):
        return None
    curve = roc(good, bad)
    return float(curve.recall[curve.overkill <= overkill].max())


def roc(good: Scores, bad: Scores) -> Curve:
    """The curve through every threshold at which something changes; needs good and bad parts."""
    thresholds = np.concatenate([[np.inf], np.unique(np.concatenate([good, bad]))[::-1]])
    return Curve(thresholds, _share_from(good, thresholds), _share_from(bad, thresholds))


def share(count: int, total: int) -> float | None:
    """`count` of `total`; None of none."""
    return count / total if total else None


def _share_from(scores: Scores, thresholds: Scores) -> Scores:
    """The share of `scores` at or above each threshold."""
    below = np.searchsorted(np.sort(scores), thresholds, side="left")
    return np.asarray((len(scores) - below) / len(scores), np.float64)


def percent(share: float | None) -> str:
    """A share as it is printed everywhere: 12.3%, or a dash where there is none."""
    return "–" if share is None else f"{share:.1%}"


def between(interval: tuple[float, float] | None) -> str:
    """An interval of shares as it is printed everywhere: 8.1–17.9%; nothing where there is none."""
    return "" if interval is None else f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f}%"
