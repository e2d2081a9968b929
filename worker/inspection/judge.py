"""The judge: from a scored frame to a decision: which product, beyond its threshold or not, and why.

Shapes: C products, V views.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Array, Indices, Mask
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.calibration import (
    conformal_p_value,
    conformal_threshold,
    pictures_needed,
    too_few,
)
from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.guard import unusable
from quarterturn.worker.contract.limits import in_limits
from quarterturn.worker.inspection.scorer import Scored
from quarterturn.worker.inspection.scoring import turn_ratio
from quarterturn.worker.messages.events import AlertKind
from quarterturn.worker.pictures.supply import to_add

_LESS = np.float32(1 - 1e-5)  # a sum of some of the terms, however it is rounded, is not above that of all of them
_NEARLY_GOOD = 2.0  # limits; a good part of another product, or one that lies turned, may look a little odd, too
_ORIENTED_SHARE = 0.95
"""A product has an orientation only if at least this share of its calibration pictures fits best as it lies."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the bank says of one frame.

    `product` is the admissible product that fits best; `score` and `threshold` are its own, and `view_distances` (V,)
    the distances of the frame's embedding from it. `p_value` is the largest of all admissible products: a good part is
    one of them, so it is a p-value whichever it is. `alert` is None within the threshold.
    `nearest` is `product`, unless the alert is `wrong_product`: then it is the product that the frame looks like.
    `reason` says why the picture is unusable, where the alert says so.
    """

    alert: AlertKind | None
    product: str
    nearest: str
    score: float
    threshold: float
    p_value: float
    view_distances: tuple[float, ...]
    reason: str | None = None

    def unusable(self, reason: str) -> Judgement:
        """The same of a picture that cannot be judged, whatever it scores."""
        return replace(self, alert="unusable_picture", nearest=self.product, reason=reason)


@dataclass(frozen=True)
class Judge:
    """A bank with its thresholds. Immutable: a batch is judged as a whole by the judge that it began with.

    `thresholds` (C,) of scores; `highest` (C,): the largest score of a calibration, that has so many `pictures` (C,);
    `limits` (C,) of the distance of the frame's embedding: the largest of the calibration; `turn_limits[c]` is the turn
    ratio beyond which a part lies the wrong way, or None for a product that looks the same turned.
    """

    bank: Bank
    thresholds: Array
    highest: Array
    pictures: Indices
    limits: Array
    turn_limits: tuple[float | None, ...]

    @classmethod
    def of(cls, bank: Bank, overkill: float, fixed: Mapping[str, float]) -> Judge:
        """Derive thresholds for `overkill` from the bank's calibration; `fixed` ones, by product, are kept as they are.

        Raises:
            ConfigError: a fixed threshold names a product that the bank does not hold.
            DataError: there are too few calibration scores for this overkill.
        """
        unknown = sorted(set(fixed) - set(bank.products))
        if unknown:
            raise ConfigError(f"thresholds: '{unknown[0]}' is no product of the bank ({', '.join(bank.products)})")
        _require_enough(bank, overkill, fixed)
        thresholds = [
            fixed[product] if product in fixed else conformal_threshold(calibration.scores, overkill)
            for product, calibration in zip(bank.products, bank.calibration, strict=True)
        ]
        return cls(
            bank,
            np.array(thresholds, np.float32),
            np.array([calibration.scores.max(initial=0) for calibration in bank.calibration], np.float32),
            np.array([len(calibration.scores) for calibration in bank.calibration]),
            np.array([calibration.distances.max(initial=0) for calibration in bank.calibration], np.float32),
            tuple(_turn_limit(calibration.turn_ratios) for calibration in bank.calibration),
        )

    def undecided(self, products: Sequence[int], scores: Array, complete: Mask) -> Mask:
        """Which of the A products that a frame may show can still change what is said of it.

        `scores` (A,) may rise where they are not `complete` (A,). Such a product is decided once its ratio of score to
        threshold lies beyond the least complete one, and its p-value is known, or no larger than a complete one.
        """
        if not complete.any():
            return ~complete
        least = np.where(complete, scores, _LESS * scores)
        ratios, p_values = self._ratios(products, least), self._p_values(products, least)
        may_fit_best = ratios <= ratios[complete].min()
        may_be_likelier = (p_values > p_values[complete].max()) & (least <= self.highest[list(products)])
        return np.asarray(~complete & (may_fit_best | may_be_likelier))

    def judge(self, scored: Scored, measured: Array | None = None) -> Judgement:
        """Decide on one frame that was scored by the same bank.

        `measured` (M,) is what its picture measures, see `guard.measure`; None: nobody asks whether it can be judged.
        """
        best = int(self._ratios(scored.products, scored.scores).argmin())
        product, score = scored.products[best], float(scored.scores[best])
        threshold, seen = float(self.thresholds[product]), scored.appearance
        alert, nearest = self._alert(product, scored) if score > threshold else (None, product)
        judgement = Judgement(
            alert=alert,
            product=self.bank.products[product],
            nearest=self.bank.products[nearest],
            score=score,
            threshold=threshold,
            p_value=float(self._p_values(scored.products, scored.scores).max()),
            view_distances=tuple(seen.views[product].tolist()),
        )
        # By the product that it shows: a good picture of a darker product is no unusable one of this.
        reason = None if measured is None else unusable(measured, self.bank.guard[nearest])
        return judgement if reason is None else judgement.unusable(reason)

    def _ratios(self, products: Sequence[int], scores: Array) -> Array:
        """(A,) scores of products, in their thresholds."""
        return in_limits(scores, self.thresholds[list(products)])

    def _p_values(self, products: Sequence[int], scores: Array) -> npt.NDArray[np.float64]:
        """(A,) by the calibration of each product."""
        which = list(products)
        p_values = 1 / (self.pictures[which] + 1)  # of those beyond all of it: where there are many, that is most
        for place in np.flatnonzero(scores <= self.highest[which]).tolist():
            calibrated = self.bank.calibration[products[place]].scores
            p_values[place] = conformal_p_value(calibrated, float(scores[place]))
        return np.asarray(p_values)

    def _alert(self, product: int, scored: Scored) -> tuple[AlertKind, int]:
        """Why a frame is beyond the threshold of `product`, and the product that it shows."""
        farness = in_limits(scored.appearance.distance, self.limits)  # beyond 1 lies no calibration picture
        nearest = int(farness.argmin())
        if nearest not in scored.products and farness[nearest] <= _NEARLY_GOOD and farness[product] > 1:
            return "wrong_product", nearest
        return "wrong_orientation" if self._is_turned(product, scored) else "defect", product

    def _is_turned(self, product: int, scored: Scored) -> bool:
        """Whether another orientation explains the frame, better than one explains any good part, and about as well.

        A small defect is as bad in every orientation; a good part that lies turned is good in the right one.
        """
        limit = self.turn_limits[product]
        if limit is None or (orientations := scored.orientations(product)) is None:
            return False
        return turn_ratio(orientations) > limit and bool(orientations[1:].min() <= _NEARLY_GOOD * self.limits[product])


def _require_enough(bank: Bank, overkill: float, fixed: Mapping[str, float]) -> None:
    needed = pictures_needed(overkill)
    for product, calibration in zip(bank.products, bank.calibration, strict=True):
        if product not in fixed and len(calibration.scores) < needed:
            remedy = f"fit a bank with a folder of {to_add([], needed, None)} good pictures as 'calibration'"
            raise too_few(f"product '{product}'", len(calibration.scores), overkill, remedy, "worker.yaml")


def _turn_limit(ratios: Array) -> float | None:
    """The largest turn ratio of good pictures, at least 1; None where good pictures often look turned themselves."""
    if len(ratios) == 0 or np.mean(ratios < 1) < _ORIENTED_SHARE:
        return None
    return max(1.0, float(ratios.max()))
