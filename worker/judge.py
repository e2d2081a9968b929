"""From scores to a judgement: which product, beyond its threshold or not, and why. Pure arithmetic, no I/O.

Shapes: B frames, N tiles of all frames, C products, V views.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from worker.contract.bank import Bank
from worker.contract.calibration import conformal_p_value, conformal_threshold
from worker.contract.embeddings import Array, Embeddings, join, rows
from worker.contract.errors import ConfigError, FrameError
from worker.contract.framing import Layout
from worker.contract.scoring import Appearance, appearances, frame_scores, heat_map, read_frames, spans, turn_ratio
from worker.events import AlertKind

_TINY = np.float32(1e-12)  # a threshold of 0, of a product whose pictures are all the same, still orders the scores
_NEARLY_GOOD = 2.0  # limits; a good part of another product, or one that lies turned, may look a little odd, too
_ORIENTED_SHARE = 0.95
"""A product has an orientation only if at least this share of its calibration pictures fits best as it lies."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the bank says of one frame.

    `product` is the admissible product that fits best; `score`, `threshold` and `p_value` are its own, and
    `view_distances` (V,) the distances of the frame's embedding from it. `alert` is None within the threshold.
    `nearest` is `product`, unless the alert is `wrong_product`: then it is the product that the frame looks like.
    `heat` (h, w) is the evidence at each place, in thresholds.
    """

    alert: AlertKind | None
    product: str
    nearest: str
    score: float
    threshold: float
    p_value: float
    view_distances: tuple[float, ...]
    heat: Array


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

    def judge(
        self, embeddings: Embeddings, layouts: Sequence[Layout], admissible: Sequence[Sequence[str] | None]
    ) -> list[Judgement | FrameError]:
        """Judge the embeddings of the tiles of B frames, which lie in each as its layout says.

        `admissible[b]` names the products that frame b may show; None admits all. A frame whose products the bank does
        not hold gets a FrameError (`unknown_product`) in its place.
        """
        tiles = spans(layouts)
        judgements: dict[int, Judgement | FrameError] = {}
        alike: dict[tuple[int, ...], list[int]] = {}  # frames that may show the same products
        for b, names in enumerate(admissible):
            try:
                alike.setdefault(self._indices(names), []).append(b)
            except FrameError as error:
                judgements[b] = error
        for allowed, frames in alike.items():
            everything = len(frames) == len(layouts)
            theirs = embeddings if everything else join([rows(embeddings, tiles[b]) for b in frames])
            found = self._judge_alike(theirs, [layouts[b] for b in frames], allowed)
            judgements |= dict(zip(frames, found, strict=True))
        return [judgements[b] for b in range(len(layouts))]

    def _judge_alike(
        self, embeddings: Embeddings, layouts: Sequence[Layout], allowed: Sequence[int]
    ) -> list[Judgement]:
        """Judge frames that may show these products, by what the bank knows of them; their appearance beside all."""
        bank = self.bank.of_products(allowed)
        readings = read_frames(embeddings, layouts, bank)
        whole = appearances(embeddings, layouts, self.bank.normals)
        judgements = []
        for reading, scores, seen in zip(readings, frame_scores(readings, bank), whole, strict=True):
            best = int((scores / np.maximum(self.thresholds[list(allowed)], _TINY)).argmin())
            product, score = allowed[best], float(scores[best])
            threshold = float(self.thresholds[product])
            alert, nearest = self._alert(product, allowed, seen) if score > threshold else (None, product)
            judgements.append(
                Judgement(
                    alert=alert,
                    product=self.bank.products[product],
                    nearest=self.bank.products[nearest],
                    score=score,
                    threshold=threshold,
                    p_value=conformal_p_value(bank.calibration[best].scores, score),
                    view_distances=tuple(seen.views[product].tolist()),
                    heat=heat_map(reading, bank, best, threshold),
                )
            )
        return judgements

    def _alert(self, product: int, allowed: Sequence[int], seen: Appearance) -> tuple[AlertKind, int]:
        """Why a frame is beyond the threshold of `product`, and the product that it shows."""
        farness = seen.distance / np.maximum(self.limits, _TINY)  # beyond 1 lies no calibration picture
        nearest = int(farness.argmin())
        if nearest not in allowed and farness[nearest] <= _NEARLY_GOOD and farness[product] > 1:
            return "wrong_product", nearest
        return "wrong_orientation" if self._is_turned(product, seen) else "defect", product

    def _indices(self, names: Sequence[str] | None) -> tuple[int, ...]:
        if names is None:
            return tuple(range(len(self.bank.products)))
        try:
            return tuple(self.bank.products.index(name) for name in names)
        except ValueError:
            raise FrameError(
                "unknown_product",
                f"product {'/'.join(names)} is not in the bank ({', '.join(self.bank.products)}); fit a bank with it",
            ) from None

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
