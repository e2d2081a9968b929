"""The scorer: a bank and embeddings in, scores and maps out. What follows from them is the judge's.

Shapes: B frames, N tiles of all frames, C products of the bank, A of them that a frame may show, K detectors, V views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.detectors import LEARNED, distances, from_products, output_of, sees_places, supported
from quarterturn.worker.contract.embeddings import FRAME, Embeddings, join, rows
from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.framing import Layout
from quarterturn.worker.contract.gaussians import Gaussian, stacked
from quarterturn.worker.contract.limits import in_limits
from quarterturn.worker.inspection.comparison import Comparison, Undecided, all_of_them
from quarterturn.worker.inspection.scoring import (
    Appearance,
    aggregate,
    appearances,
    by_frame,
    evidence,
    orientations,
    spans,
)
from quarterturn.worker.inspection.search import places

Seen = Sequence[tuple[Array, Array]]
"""Of each frame, what one detector says of it: a map (h, w) and the frame's distance."""

Each = Callable[[Callable[[str], Seen], Iterable[str]], Iterable[Seen]]
"""`map`, or that of an executor, which does several at once."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One frame beside a bank.

    `products` (A,) are the indices of those that it may show, `scores` (A,) its scores against them, or a lower bound
    where nobody needs more. Of the others, by their index, `maps[c]` is K times (h, w), the distance of each place of
    the unturned frame by each detector. `appearance` is how it looks as a whole beside all C, by the embeddings `whole`
    (T, V, E) of its tiles, which lie in it as `layout` says; `gaussians` (C, R, 1, E) are those of good parts.
    """

    products: tuple[int, ...]
    scores: Array
    maps: Mapping[int, tuple[Array, ...]]
    appearance: Appearance
    whole: Array
    layout: Layout
    gaussians: Gaussian

    def orientations(self, product: int) -> Array | None:
        """(R,) the distance of the whole frame from a product if the part lay turned, see `scoring.orientations`."""
        return orientations(self.whole, self.layout, self.gaussians[product])


@dataclass(frozen=True)
class Scorer:
    """Scores frames by one bank, place by place against the products that each may show.

    `undecided` says which of several products are worth the search, see `Judge.undecided`; all are, where nobody says.
    `each` asks detectors where all have to be asked.
    """

    bank: Bank
    undecided: Undecided = all_of_them
    each: Each = map

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
        frames = self._glance(embeddings, layouts, products)
        while waiting := [one for one in frames if not one.done]:
            product = waiting[0].nearest()
            self._compare(product, [one for one in waiting if one.takes_up(product)], embeddings)
        whole, gaussians = embeddings[FRAME], self._gaussians
        return [
            Scored(one.products, one.scores, one.maps, one.appearance, whole[one.tiles], one.layout, gaussians)
            for one in frames
        ]

    def heat_map(self, scored: Scored, product: str, threshold: float) -> Array:
        """(h, w): the evidence at each place, in thresholds: 1 is as rare among good frames as one at its threshold.

        By the detectors that see places; by all, the same everywhere, where none does. Those of coarser grids are
        interpolated between the middles of their places.
        """
        index = self.bank.products.index(product)
        votes, maps = self.bank.manifest.votes, scored.maps[index]
        shown = [k for k, one in enumerate(votes) if sees_places(one)] or range(len(votes))
        height, width = max((maps[k].shape for k in shown), key=lambda grid: grid[1])
        heat, weights = np.zeros((height, width), np.float32), [*votes.values()]
        for k in shown:
            part = evidence(maps[k], self.bank.scales[index, k])
            heat += np.float32(weights[k]) * cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
        return in_limits(heat / sum(weights[k] for k in shown), threshold)

    @cached_property
    def _gaussians(self) -> Gaussian:
        """Those of the whole frame, (C, R, 1, E), of all products."""
        return stacked([model for normal in self.bank.normals if isinstance(model := normal[FRAME], Gaussian)])

    @cached_property
    def _searches(self) -> list[str]:
        """The detectors that look at one product at a time, those first that multiply the least."""
        known = supported(self.bank.manifest.spec)  # deeper grids have fewer places, and `position` has no coreset
        return [one for one in reversed(known) if one in self.bank.manifest.votes and one not in (FRAME, LEARNED)]

    def _glance(
        self, embeddings: Embeddings, layouts: Sequence[Layout], products: Sequence[Sequence[int]] | None
    ) -> list[Comparison]:
        """What is said at once of all products that each of B frames may show."""
        detectors, worst = self.bank.manifest.detectors, self.bank.manifest.scoring.worst
        by_view = from_products(embeddings[FRAME], self._gaussians)
        allowed = [self.admissible(None)] * len(layouts) if products is None else products
        appear = zip(allowed, layouts, spans(layouts), appearances(by_view, layouts), strict=True)
        frames = [
            Comparison(self.bank, self.undecided, its_products, layout=layout, tiles=tiles, appearance=seen)
            for its_products, layout, tiles, seen in appear
        ]
        if FRAME in detectors:
            whole = aggregate(by_view, axis=-1)[..., np.newaxis]  # (N, C, 1)
            for one, (maps, far) in zip(frames, by_frame(whole, layouts, worst), strict=True):
                which = list(one.products)
                one.glance(detectors.index(FRAME), maps[which], far[which])
        if LEARNED in detectors:
            learned = aggregate(distances(LEARNED, embeddings, {}), axis=1)[:, np.newaxis]  # (N, 1, P)
            for one, (maps, far) in zip(frames, by_frame(learned, layouts, worst), strict=True):
                one.glance(detectors.index(LEARNED), maps, far)
        return frames

    def _compare(self, product: int, frames: Sequence[Comparison], embeddings: Embeddings) -> None:
        """Compare frames with one product, as far as each needs it."""
        normal, worst = self.bank.normals[product], self.bank.manifest.scoring.worst

        def search(detector: str) -> Seen:  # of those frames that are left when it is asked
            theirs, layouts = _of_frames(embeddings, output_of(detector, embeddings), frames)
            median, _ = self.bank.scales[product, self.bank.manifest.detectors.index(detector)]
            values = places(detector, theirs, normal, layouts, worst=worst, median=median)
            return by_frame(values, layouts, worst)

        # Beside a complete product a frame may be settled before the last detector, else all are asked: at once, the
        # one that takes longest first.
        settles = any(one.complete.any() for one in frames)
        each: Each = map if settles else self.each
        detectors = self._searches if settles else self._searches[::-1]
        for detector, seen in zip(detectors, each(search, detectors), strict=True):
            k = self.bank.manifest.detectors.index(detector)
            frames = [one for one, (places, far) in zip(frames, seen, strict=True) if one.look(k, places, far)]
            if not frames:
                return
        for one in frames:
            one.finish()


def _of_frames(embeddings: Embeddings, name: str, frames: Sequence[Comparison]) -> tuple[Embeddings, list[Layout]]:
    """One output of an engine, of the tiles of some frames, and their layouts; no copy where they are all."""
    output, layouts = {name: embeddings[name]}, [one.layout for one in frames]
    if sum(len(layout.corners) for layout in layouts) == len(output[name]):
        return output, layouts
    return join([rows(output, one.tiles) for one in frames]), layouts
