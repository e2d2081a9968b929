"""The judge: from a scored frame to a decision: which product, beyond its threshold or not, and why.

Shapes: C products, V views.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.calibration import conformal_p_value, conformal_threshold
from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.guard import unusable
from quarterturn.worker.inspection.scorer import Scored
from quarterturn.worker.inspection.scoring import Appearance, turn_ratio
from quarterturn.worker.messages.events import AlertKind

_TINY = np.float32(1e-12)  # a threshold of 0, of a product whose pictures are all the same, still orders the scores
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

    `thresholds` (C,) of scores; `limits` (C,) of the distance of the frame's embedding: the largest of the calibration;
    `turn_limits[c]` is the turn ratio beyond which a part lies the wrong way, or None for a product
    that looks the same turned.
    """

    bank: Bank
    thresholds: Array
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
        thresholds = [
            fixed[product]
            if product in fixed
            else conformal_threshold(calibration.scores, overkill, f"product '{product}'")
            for product, calibration in zip(bank.products, bank.calibration, strict=True)
        ]
        limits = [calibration.distances.max(initial=0) for calibration in bank.calibration]
        turn_limits = tuple(_turn_limit(calibration.turn_ratios) for calibration in bank.calibration)
        return cls(bank, np.array(thresholds, np.float32), np.array(limits, np.float32), turn_limits)

    def judge(self, scored: Scored, measured: Array | None = None) -> Judgement:
        """Decide on one frame that was scored by the same bank.

        `measured` (M,) is what its picture measures, see `guard.measure`; None: nobody asks whether it can be judged.
        """
        best = int((scored.scores / np.maximum(self.thresholds[list(scored.products)], _TINY)).argmin())
        product, score = scored.products[best], float(scored.scores[best])
        threshold, seen = float(self.thresholds[product]), scored.appearance
        alert, nearest = self._alert(product, scored.products, seen) if score > threshold else (None, product)
        judgement = Judgement(
            alert=alert,
            product=self.bank.products[product],
            nearest=self.bank.products[nearest],
            score=score,
            threshold=threshold,
            p_value=max(
                conformal_p_value(self.bank.calibration[c].scores, float(own))
                for c, own in zip(scored.products, scored.scores, strict=True)
            ),
            view_distances=tuple(seen.views[product].tolist()),
        )
        # By the product that it shows: a good picture of a darker product is no unusable one of this.
        reason = None if measured is None else unusable(measured, self.bank.guard[nearest])
        return judgement if reason is None else judgement.unusable(reason)

    def _alert(self, product: int, allowed: Sequence[int], seen: Appearance) -> tuple[AlertKind, int]:
        """Why a frame is beyond the threshold of `product`, and the product that it shows."""
        farness = seen.distance / np.maximum(self.limits, _TINY)  # beyond 1 lies no calibration picture
        nearest = int(farness.argmin())
        if nearest not in allowed and farness[nearest] <= _NEARLY_GOOD and farness[product] > 1:
            return "wrong_product", nearest
        return "wrong_orientation" if self._is_turned(product, seen) else "defect", product

    def _is_turned(self, product: int, seen: Appearance) -> bool:
        """Whether another orientation explains the frame, better than one explains any good part, and about as well.

        A small defect is as bad in every orientation; a good part that lies turned is good in the right one.
        """
        limit = self.turn_limits[product]
        if limit is None or seen.orientations is None:
            return False
        orientations = seen.orientations[product]
        return turn_ratio(orientations) > limit and bool(orientations[1:].min() <= _NEARLY_GOOD * self.limits[product])


def _turn_limit(ratios: Array) -> float | None:
    """The largest turn ratio of good pictures, at least 1; None where good pictures often look turned themselves."""
    if len(ratios) == 0 or np.mean(ratios < 1) < _ORIENTED_SHARE:
        return None
    return max(1.0, float(ratios.max()))
