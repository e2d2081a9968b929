"""One frame beside the products that it may show, while they are compared.

Every detector only adds to a score, so what some of them have said is a lower bound of it.
Shapes: T tiles of the frame, C products of the bank, A of them that it may show, K detectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from quarterturn.worker.contract.arrays import Array, Mask
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.framing import Layout
from quarterturn.worker.inspection.scoring import Appearance, combine

Undecided = Callable[[Sequence[int], Array, Mask], Mask]
"""(A,) products, their scores so far, and whether these are complete -> which of the others must be completed."""


def all_of_them(_products: Sequence[int], _scores: Array, complete: Mask) -> Mask:
    """Every score is wanted."""
    return ~complete


class Comparison:
    """One frame, its `tiles` among those of all frames, and what has been found of it so far.

    `scores` (A,) are by the detectors that have looked, and `complete` (A,) says where all have. Of those products,
    `maps[c]` is K times (h, w), the distance of each place from product c.
    """

    def __init__(
        self,
        bank: Bank,
        undecided: Undecided,
        products: Sequence[int],
        *,
        layout: Layout,
        tiles: slice,
        appearance: Appearance,
    ) -> None:
        self.products, self.layout, self.tiles, self.appearance = tuple(products), layout, tiles, appearance
        self.scores: Array = np.zeros(len(products), np.float32)
        self.complete: Mask = np.zeros(len(products), bool)
        self.maps: dict[int, tuple[Array, ...]] = {}
        self._undecided = undecided
        self._scales, self._votes = bank.scales[list(products)], np.array([*bank.manifest.votes.values()], np.float32)
        self._raw: Array = np.zeros((len(products), len(self._votes)), np.float32)
        self._of_all: dict[int, Array] = {}  # by detector: maps (A, h, w), or (1, h, w) of any product
        self._of_one: dict[int, Array] = {}  # by detector: the map (h, w) of the product at hand
        self._open: Mask = ~self.complete
        self._at = 0  # the place in `products` of the one at hand

    def glance(self, detector: int, maps: Array, distances: Array) -> None:
        """Note what a detector says of each product, (A, h, w) and (A,), or of any, (1, h, w) and (1,)."""
        self._of_all[detector], self._raw[:, detector] = maps, distances

    @property
    def done(self) -> bool:
        """Whether no product is open any more."""
        return not self._open.any()

    def nearest(self) -> int:
        """Of the open products the one that the frame as a whole looks like most."""
        distance = self.appearance.distance[list(self.products)]
        return self.products[int(np.where(self._open, distance, np.inf).argmin())]

    def takes_up(self, product: int) -> bool:
        """Whether to go on with `product`, which is then at hand: first with the nearest, later with any open one."""
        if not self.complete.any() and product != self.nearest():
            return False
        places = [place for place in np.flatnonzero(self._open).tolist() if self.products[place] == product]
        if places:
            self._at, self._of_one = places[0], {}
        return bool(places)

    def look(self, detector: int, seen: Array, distance: Array) -> bool:
        """Note what a detector says of the product at hand, (h, w) and a number; whether to go on with it."""
        self._of_one[detector], self._raw[self._at, detector] = seen, distance
        if self.complete.any():
            self.scores[self._at] = self._by([*self._of_all, *self._of_one], self._at)
            self._open = self._undecided(self.products, self.scores, self.complete)
        return bool(self._open[self._at])

    def finish(self) -> None:
        """All detectors have said what they have to say of the product at hand."""
        product, maps = self.products[self._at], dict(self._of_one)
        for detector, seen in self._of_all.items():
            maps[detector] = seen[self._at if len(seen) > 1 else 0]
        self.maps[product] = tuple(maps[detector] for detector in range(len(self._votes)))
        if len(self.products) > 1 and not self.complete.any():
            self.scores = self._by(list(self._of_all), slice(None))
        self.scores[self._at] = self._by(list(maps), self._at)
        self.complete[self._at] = True
        self._open = self._undecided(self.products, self.scores, self.complete)

    def _by(self, detectors: list[int], places: int | slice) -> Array:
        """The scores by some of the detectors."""
        which = sorted(detectors)  # the same sum, whoever spoke first
        return combine(self._raw[places, which], self._scales[places, which], self._votes[which])
