"""Fitting what good parts of one product look like, batch by batch, and choosing the detectors without any defect.

Shapes: N tiles, V views, P positions, D dimensions, K detectors.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from worker.contract.detectors import (
    Array,
    Detector,
    Moments,
    Normal,
    coarse_side,
    coarsen,
    features_of,
    greedy_coreset,
)
from worker.contract.framing import WHOLE, Layout
from worker.contract.manifest import EmbeddingSpec
from worker.contract.scoring import combine, fit_scale

_CANDIDATES = 10_000  # normal embeddings of a product and view that a coreset is chosen from
_USEFUL = 0.52  # AUROC
_NEARLY = 0.05  # AUROC; chosen on real defects of magnetic_tile and screw, see docs/method.md

Values = npt.NDArray[np.floating]


class NormalFit:
    """Takes the embeddings of good parts of one product and becomes a `Normal`; its memory does not grow with them.

    Args:
        spec: what the embeddings mean.
        tiles: about how many tiles will be added; each gives as many candidates for the coreset.
        coreset: M, how many normal embeddings are kept.
    """

    def __init__(self, spec: EmbeddingSpec, tiles: int, coreset: int) -> None:
        places = coarse_side(spec.positions) ** 2
        self._everywhere = Moments(spec.views, dimensions=spec.features)
        self._places = Moments(spec.views, places, dimensions=spec.features) if places > 1 else None
        self._learned = spec.learned
        self._coreset = coreset
        self._drawn = min(places, -(-_CANDIDATES // max(1, tiles)))
        self._candidates: list[Array] = []
        self._rng = np.random.default_rng(0)

    def add(self, embeddings: Array, layouts: Sequence[Layout]) -> None:
        """Add the embeddings (N, V, P, D) of the N tiles of some pictures."""
        coarse = coarsen(features_of(embeddings) if self._learned else embeddings)
        count, views, places, dimensions = coarse.shape
        self._everywhere.add(coarse.transpose(0, 2, 1, 3).reshape(count * places, views, dimensions))
        if any(layout != WHOLE for layout in layouts):
            self._places = None  # a position is not the same place of every part
        if self._places is not None:
            self._places.add(coarse)
        drawn = self._rng.permuted(np.tile(np.arange(places), (count, 1)), axis=1)[:, : self._drawn]
        taken = np.take_along_axis(coarse, drawn[:, None, :, None], axis=2)  # the same places in every view
        self._candidates.append(taken.transpose(0, 2, 1, 3).reshape(-1, views, dimensions))

    def build(self) -> Normal:
        """What the good parts added look like."""
        everywhere = self._everywhere.gaussian()
        candidates = np.concatenate(self._candidates)
        neighbours = []
        for v in range(candidates.shape[1]):
            whitened = (candidates[:, v] - everywhere.mean[v]) @ everywhere.whitening[v].T
            neighbours.append(whitened[greedy_coreset(whitened, self._coreset)])
        places = None if self._places is None else self._places.gaussian()
        return Normal(everywhere, places, np.stack(neighbours).astype(np.float32))


def auroc(good: Values, bad: Values) -> float:
    """The probability that a bad part scores higher than a good one, a tie counting half (Mann-Whitney); both (n,)."""
    ordered = np.sort(good)
    below = np.searchsorted(ordered, bad, side="left")
    not_above = np.searchsorted(ordered, bad, side="right")
    return float((below + not_above).sum() / (2 * len(good) * len(bad)))


def choose_detectors(
    detectors: Sequence[Detector], clean: Sequence[Array], spoiled: Sequence[Array]
) -> tuple[tuple[Detector, ...], dict[str, float]]:
    """Choose the detectors that tell good pictures from the same with a defect pasted in.

    Real defects are of more kinds than pasted ones, so of all combinations that find nearly as many as the best one
    (an AUROC of 0.05 less at most), the one with most detectors is taken, and of several such the best. A detector
    that does no better than chance alone (an AUROC below 0.52) is left out, unless all are. `learned` was trained on
    pasted defects, so they say little about how well it finds real ones: it never judges alone.

    Args:
        detectors: the K to choose from.
        clean: for each product, (n, K) distances of good pictures.
        spoiled: for each product, (m, K) distances of spoiled ones.

    Returns:
        The chosen ones in the order of `detectors`, and the AUROC, a mean over products, of all combinations by name.
    """

    def found(places: tuple[int, ...]) -> float:
        columns, names = list(places), [detectors[k] for k in places]
        each = []
        for good, bad in zip(clean, spoiled, strict=True):
            scale = fit_scale(good[:, columns])
            each.append(auroc(*(combine(raw[:, columns], scale, names) for raw in (good, bad))))
        return float(np.mean(each))

    everyone = range(len(detectors))
    table = {c: found(c) for size in range(1, len(detectors) + 1) for c in itertools.combinations(everyone, size)}
    together = [places for places in table if len(detectors) == 1 or [detectors[k] for k in places] != ["learned"]]
    useful = {k for k in everyone if table[(k,)] >= _USEFUL}
    candidates = [places for places in together if useful.issuperset(places)] or together
    best = max(table[places] for places in candidates)
    nearly = [places for places in candidates if table[places] >= best - _NEARLY]
    chosen = max(nearly, key=lambda places: (len(places), table[places]))
    named = {"+".join(detectors[k] for k in places): round(value, 4) for places, value in table.items()}
    return tuple(detectors[k] for k in chosen), named
