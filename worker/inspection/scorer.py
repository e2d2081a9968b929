"""The scorer: a bank and embeddings in, scores and maps out. What follows from them is the judge's.

Shapes: B frames, N tiles of all frames, C products of the bank, A of them that a frame may show, K detectors, V views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.detectors import sees_places
from quarterturn.worker.contract.embeddings import Embeddings, join, rows
from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.framing import Layout
from quarterturn.worker.inspection.scoring import Appearance, Reading, appearances, combine, evidence, read, spans

_TINY = np.float32(1e-12)  # a threshold of 0, of a product whose pictures are all the same


@dataclass(frozen=True, slots=True)
class Scored:
    """One frame beside a bank.

    `products` (A) are the indices of those that it may show, `scores` (A,) its scores against them, and `reading` what
    each detector says of them. `appearance` is how it looks as a whole beside all C.
    """

    products: tuple[int, ...]
    scores: Array
    reading: Reading
    appearance: Appearance


@dataclass(frozen=True)
class Scorer:
    """Scores frames by one bank, place by place against the products that each may show."""

    bank: Bank

    def admissible(self, names: Sequence[str] | None) -> tuple[int, ...]:
        """The indices of the products called so; None means all.

        Raises:
            FrameError: the bank does not hold one of them (`unknown_product`).
        """
        if names is None:
            return tuple(range(len(self.bank.products)))
        try:
            return tuple(self.bank.products.index(name) for name in names)
        except ValueError:
            raise FrameError(
                "unknown_product",
                f"product {'/'.join(names)} is not in the bank ({', '.join(self.bank.products)}); fit a bank with it",
            ) from None

    def score(
        self, embeddings: Embeddings, layouts: Sequence[Layout], products: Sequence[Sequence[int]] | None = None
    ) -> list[Scored]:
        """Score the embeddings of the N tiles of B frames, which lie in each as its layout says.

        `products[b]` are the indices of those that frame b may show; None admits all for every frame.
        """
        tiles, everything = spans(layouts), self.admissible(None)
        alike: dict[tuple[int, ...], list[int]] = {}  # frames that may show the same products
        for b in range(len(layouts)):
            alike.setdefault(everything if products is None else tuple(products[b]), []).append(b)
        whole = appearances(embeddings, layouts, self.bank.normals) if layouts else []
        scored: dict[int, Scored] = {}
        for allowed, frames in alike.items():
            theirs = embeddings if len(alike) == 1 else join([rows(embeddings, tiles[b]) for b in frames])
            bank = self.bank.of_products(allowed)
            scoring, detectors, votes = bank.manifest.scoring, bank.manifest.detectors, [*bank.manifest.votes.values()]
            readings = read(theirs, [layouts[b] for b in frames], bank.normals, scoring, detectors)
            scores = combine(np.stack([reading.raw for reading in readings]), bank.scales, votes)
            for b, reading, own in zip(frames, readings, scores, strict=True):
                scored[b] = Scored(allowed, own, reading, whole[b])
        return [scored[b] for b in range(len(layouts))]

    def heat_map(self, scored: Scored, product: str, threshold: float) -> Array:
        """(h, w): the evidence at each place, in thresholds: 1 is as rare among good frames as one at its threshold.

        By the detectors that see places; by all, the same everywhere, where none does. Those of coarser grids are
        interpolated between the middles of their places.
        """
        index = self.bank.products.index(product)
        votes, detectors = self.bank.manifest.votes, self.bank.manifest.detectors
        shown = [k for k, one in enumerate(detectors) if sees_places(one)] or list(range(len(detectors)))
        maps = [scored.reading.maps[k][scored.products.index(index)] for k in shown]
        height, width = max((one.shape for one in maps), key=lambda grid: grid[1])
        parts = [
            cv2.resize(evidence(one, self.bank.scales[index, k]), (width, height), interpolation=cv2.INTER_LINEAR)
            for k, one in zip(shown, maps, strict=True)
        ]
        mean = np.average(parts, axis=0, weights=[votes[detectors[k]] for k in shown])
        return np.asarray(mean / np.maximum(threshold, _TINY), np.float32)
