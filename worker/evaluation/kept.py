"""Whether the overkill that was measured is what the calibration promised, or more than chance explains."""

from __future__ import annotations

from dataclasses import dataclass

from quarterturn.worker.contract.calibration import CONFIDENCE, Promise
from quarterturn.worker.contract.chance import most_rejected
from quarterturn.worker.evaluation.result import Evaluation


@dataclass(frozen=True, slots=True)
class Kept:
    """The good parts of one product beside its promise: `rejected` of `good`; up to `most` are within chance."""

    product: str
    good: int
    rejected: int
    most: int
    promise: Promise

    @property
    def within_chance(self) -> bool:
        """Whether no more were rejected than a promise that holds lets expect."""
        return self.rejected <= self.most

    @property
    def sentence(self) -> str:
        """Both in words, and what it means if they do not agree."""
        counted = f"{self.rejected} of {self.good} good parts were rejected"
        expected = f"with a promise of {self.promise.asked * 100:g}% on average"
        if self.within_chance:
            return f"{counted}; {expected}, up to {self.most} are within chance"
        return (
            f"{counted}; {expected}, no more than {self.most} are within chance: these pictures do not look like the "
            "calibration pictures, so find out what differs, or calibrate with pictures like these"
        )


def kept(evaluation: Evaluation) -> list[Kept]:
    """Each product that has a promise and good parts among the pictures.

    A promise that holds is called broken in one of twenty evaluations at most, over all products together (Bonferroni).
    """
    good = {
        product: [one for one in evaluation.inspected if one.is_good and one.product == product]
        for product in evaluation.promises
    }
    tested = [product for product, parts in good.items() if parts]
    found = []
    for product in tested:
        promise, parts = evaluation.promises[product], good[product]
        most = most_rejected(len(parts), promise.pictures, promise.rank, (1 - CONFIDENCE) / len(tested))
        rejected = sum(one.alert is not None for one in parts)
        found.append(Kept(product, len(parts), rejected, most, promise))
    return found
