"""From scores to a judgement: which product, beyond its threshold or not, and why. Pure arithmetic, no I/O.

Shapes: B frames, N tiles of all frames, C products, V views, P positions, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from worker.contract.bank import Bank
from worker.contract.calibration import conformal_p_value, conformal_threshold
from worker.contract.detectors import Array
from worker.contract.errors import ConfigError, FrameError
from worker.contract.framing import Layout
from worker.contract.scoring import Reading, by_orientation, frame_scores, heat_map, read_frames, turn_ratio
from worker.events import AlertKind

_TINY = np.float32(1e-12)  # a threshold of 0, of a product whose pictures are all the same, still orders the scores
_NEARLY_GOOD = 2.0  # thresholds; turned parts may be overkill, too
_ORIENTED_SHARE = 0.95
"""A product has an orientation only if at least this share of its calibration pictures fits best as it lies."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the bank says of one frame.

    `product` is the admissible product that fits best; `score`, `threshold` and `p_value` are its own, and
    `view_distances` (V,) its distance in each view. `alert` is None within the threshold. `nearest` is the product that
    fits best of all, which is asked only beyond the threshold: within it, it is `product`.
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

    `thresholds` (C,); `turn_limits[c]` is the turn ratio beyond which a part lies the wrong way, or None for a product
    that looks the same turned.
    """

    bank: Bank
    thresholds: Array
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
        turn_limits = tuple(_turn_limit(calibration.turn_ratios) for calibration in bank.calibration)
        return cls(bank, np.array(thresholds, np.float32), turn_limits)

    def judge(
        self, embeddings: Array, layouts: Sequence[Layout], admissible: Sequence[Sequence[str] | None]
    ) -> list[Judgement | FrameError]:
        """Judge the embeddings (N, V, P, D) of the tiles of B frames, which lie in each as its layout says.

        `admissible[b]` names the products that frame b may show; None admits all. A frame whose products the bank does
        not hold gets a FrameError (`unknown_product`) in its place.
        """
        tiles = np.split(embeddings, np.cumsum([len(layout.corners) for layout in layouts])[:-1])
        judgements: dict[int, Judgement | FrameError] = {}
        alike: dict[tuple[int, ...], list[int]] = {}  # frames that may show the same products
        for b, names in enumerate(admissible):
            try:
                alike.setdefault(self._indices(names), []).append(b)
            except FrameError as error:
                judgements[b] = error
        for allowed, frames in alike.items():
            one = self._of(allowed)
            together = embeddings if len(frames) == len(layouts) else np.concatenate([tiles[b] for b in frames])
            readings = read_frames(together, [layouts[b] for b in frames], one.bank)
            for b, reading, score in zip(frames, readings, frame_scores(readings, one.bank), strict=True):
                judgements[b] = self._judge_one(tiles[b], layouts[b], one, reading, score)
        return [judgements[b] for b in range(len(layouts))]

    def _judge_one(self, tiles: Array, layout: Layout, one: Judge, reading: Reading, score: Array) -> Judgement:
        """Judge one frame: tiles (T, V, P, D), and by the judge of its admissible products its reading and score."""
        ratios = one._ratios(score)
        best = int(ratios.argmin())
        nearest = product = one.bank.products[best]
        alert: AlertKind | None = None
        if score[best] > one.thresholds[best]:
            other, ratio = self._best_other(tiles, layout, one)
            nearest = other if ratio < ratios[best] else product
            if nearest == other and ratio <= 1:
                alert = "wrong_product"
            else:
                alert = "wrong_orientation" if one._is_turned(tiles, layout, best) else "defect"
        threshold = float(one.thresholds[best])
        return Judgement(
            alert=alert,
            product=product,
            nearest=nearest,
            score=float(score[best]),
            threshold=threshold,
            p_value=conformal_p_value(one.bank.calibration[best].scores, float(score[best])),
            view_distances=tuple(reading.views[best].tolist()),
            heat=heat_map(reading, one.bank, best, threshold),
        )

    def _best_other(self, tiles: Array, layout: Layout, one: Judge) -> tuple[str, float]:
        """The product that fits best of those not admissible, and its score in thresholds: infinite if there is none.

        Asked only beyond the threshold: a plant's line may know many products, and each costs a search.
        """
        products = [c for c, name in enumerate(self.bank.products) if name not in one.bank.products]
        if not products:
            return "", math.inf
        others = self._of(products)
        ratios = others._ratios(frame_scores(read_frames(tiles, [layout], others.bank), others.bank)[0])
        return others.bank.products[int(ratios.argmin())], float(ratios.min())

    def _of(self, products: Sequence[int]) -> Judge:
        """The judge of these products alone."""
        limits = tuple(self.turn_limits[c] for c in products)
        return Judge(self.bank.of_products(products), self.thresholds[list(products)], limits)

    def _ratios(self, scores: Array) -> Array:
        """(C,) scores in thresholds: comparable between products; beyond 1 is an alert."""
        return np.asarray(scores / np.maximum(self.thresholds, _TINY), np.float32)

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

    def _is_turned(self, tiles: Array, layout: Layout, product: int) -> bool:
        """Whether another orientation explains the frame, better than one explains any good part, and about as well.

        A small defect is as bad in every orientation; a good part that lies turned is good in the right one.
        """
        limit = self.turn_limits[product]
        scores = None if limit is None else by_orientation(tiles, layout, self.bank, product)
        if limit is None or scores is None:
            return False
        return turn_ratio(scores) > limit and bool(scores[1:].min() <= _NEARLY_GOOD * self.thresholds[product])


def _turn_limit(ratios: Array) -> float | None:
    """The largest turn ratio of good pictures, at least 1; None where good pictures often look turned themselves."""
    if len(ratios) == 0 or np.mean(ratios < 1) < _ORIENTED_SHARE:
        return None
    return max(1.0, float(ratios.max()))
