"""One frame beside the products that it may show, while they are compared.

Every detector only adds to a score, so what some of them have said is a lower bound of it.
Shapes: T tiles of the frame, C products of the bank, A of them that it may show, K detectors, R orientations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from quarterturn.worker.contract.arrays import Array, Mask
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.framing import Layout
from quarterturn.worker.inspection.scoring import Appearance, combine, over_places

Undecided = Callable[[Sequence[int], Array, Mask], Mask]
"""(A,) products, their scores so far, and whether these are complete -> which of the others must be completed."""


def all_of_them(_products: Sequence[int], _scores: Array, complete: Mask) -> Mask:
    """Every score is wanted."""
    return ~complete


class Comparison:
    """One frame, its `tiles` among those of all frames, and what has been found of it so far.

    `scores` (A,) are by the detectors that have looked, and `complete` (A,) says where all have. Of those products,
    `maps[c]` is K times (h, w), the distance of each place from product c, and `orientations[c]` (R,) how far the frame
    would be if the part lay turned, or None, see `scoring.orientations`.
    """

    def __init__(self, bank: Bank, products: Sequence[int], layout: Layout, tiles: slice, seen: Appearance) -> None:
        self.products, self.layout, self.tiles, self.appearance = tuple(products), layout, tiles, seen
        self.complete: Mask = np.zeros(len(products), bool)
        self.maps: dict[int, tuple[Array, ...]] = {}
        self.orientations: dict[int, Array | None] = {}
        self._worst = bank.manifest.scoring.worst
        self._scales, self._votes = bank.scales[list(products)], np.array([*bank.manifest.votes.values()], np.float32)
        self._raw: Array = np.zeros((len(products), len(self._votes)), np.float32)
        self._of_all: dict[int, Array] = {}  # by detector: maps (A, h, w), or (1, h, w) of any product
        self._of_one: dict[int, Array] = {}  # by detector: the map (h, w) of the product at hand
        self.scores: Array = np.zeros(len(products), np.float32)
        self._open: Mask = ~self.complete

    def glance(self, detector: int, values: Array) -> None:
        """Note what a detector says of each product, (T, A, P), or of any, (T, 1, P)."""
        self._of_all[detector] = maps = self.layout.stitch(values)
        self._raw[:, detector] = over_places(maps, self._worst)
        self.scores = self._by(list(self._of_all), slice(None))

    def next(self) -> int | None:
        """Which of `products` to go on with, as its index in them: that which the frame as a whole looks like most."""
        self._of_one = {}
        if not self._open.any():
            return None
        distance = self.appearance.distance[list(self.products)]
        return int(np.where(self._open, distance, np.inf).argmin())

    def look(self, place: int, detector: int, values: Array, undecided: Undecided) -> bool:
        """Note what a detector says, (T, P), of the product at `place` in `products`; whether to go on with that."""
        self._of_one[detector] = one = self.layout.stitch(values)
        self._raw[place, detector] = over_places(one, self._worst)
        if not self.complete.any():
            return True
        self.scores[place] = self._by([*self._of_all, *self._of_one], place)
        self._open = undecided(self.products, self.scores, self.complete)
        return bool(self._open[place])

    def finish(self, place: int, orientations: Array | None, undecided: Undecided) -> None:
        """All detectors have said of the product at `place` what they have to say."""
        product, maps = self.products[place], dict(self._of_one)
        for detector, seen in self._of_all.items():
            maps[detector] = seen[place if len(seen) > 1 else 0]
        self.maps[product] = tuple(maps[detector] for detector in range(len(self._votes)))
        self.orientations[product] = orientations
        self.scores[place] = self._by(list(maps), place)
        self.complete[place] = True
        self._open = undecided(self.products, self.scores, self.complete)

    def _by(self, detectors: list[int], places: int | slice) -> Array:
        """The scores by some of the detectors."""
        which = sorted(detectors)  # the same sum, whoever spoke first
        return combine(self._raw[places, which], self._scales[places, which], self._votes[which])
