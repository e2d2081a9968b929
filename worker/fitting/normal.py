"""Fitting what good parts of one product look like, batch by batch, and weighing the detectors without any defect.

Shapes: N tiles, V views, P places, D dimensions, M members of a coreset, K detectors.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import isqrt

import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Array, Indices
from quarterturn.worker.contract.detectors import (
    KEPT,
    LEARNED,
    NEAREST,
    POSITION,
    Coreset,
    greedy_coreset,
    samples_of,
    supported,
)
from quarterturn.worker.contract.embeddings import FRAME, Embeddings
from quarterturn.worker.contract.framing import WHOLE, Layout
from quarterturn.worker.contract.gaussians import Gaussian, Moments
from quarterturn.worker.contract.manifest import EmbeddingSpec

_CANDIDATES = 60_000  # normal places of a product and view that a coreset is chosen from, see docs/method.md
_TELLING = 4_000  # of them that tell which members are the commonest
_DOUBT = 0.02  # AUROC; this and the next chosen on real defects of magnetic_tile and screw, see docs/method.md
_LEARNED_DOUBT = 0.05
_FRAME = 0.05  # of the score, at least

Values = npt.NDArray[np.floating]


class NormalFit:
    """Takes the embeddings of good parts of one product; its memory does not grow with them.

    Args:
        spec: what the embeddings mean.
        tiles: about how many tiles will be added; each gives as many candidates for the coresets.
        coreset: M, how many places of each depth and view are kept.
    """

    def __init__(self, spec: EmbeddingSpec, tiles: int, coreset: int) -> None:
        self._detectors = [one for one in supported(spec) if one != LEARNED]
        self._moments: dict[str, Moments] = {}
        self._candidates: dict[str, list[npt.NDArray[np.float16]]] = {
            one: [] for one in self._detectors if one.startswith(NEAREST)
        }
        self._origins: dict[str, list[Indices]] = {one: [] for one in self._candidates}
        self._pictures = 0  # that were added
        self._drawn = -(-_CANDIDATES // max(1, tiles))  # places of each tile
        self._coreset = coreset
        self._rng = np.random.default_rng(0)

    def add(self, embeddings: Embeddings, layouts: Sequence[Layout]) -> None:
        """Add the embeddings of the N tiles of some pictures, which are counted from 0 in the order of all added."""
        if any(layout != WHOLE for layout in layouts):  # a position is not the same place of every part
            self._detectors = [one for one in self._detectors if one != POSITION]
        whose = [(self._pictures + n, t) for n, layout in enumerate(layouts) for t in range(len(layout.corners))]
        self._pictures += len(layouts)
        for detector in self._detectors:
            samples = samples_of(detector, embeddings)
            _, views, places, dimensions = samples.shape
            if detector in self._candidates:
                drawn = self._draw(len(samples), places)
                self._candidates[detector].append(_taken(samples, drawn))
                self._origins[detector].append(_origins(np.array(whose, np.intp), drawn, isqrt(places)))
                continue
            if detector not in self._moments:
                self._moments[detector] = Moments(views, places, dimensions=dimensions)
            self._moments[detector].add(samples)

    @property
    def detectors(self) -> tuple[str, ...]:
        """Those that can be built from what was added so far."""
        return tuple(self._detectors)

    def build(self, detectors: Collection[str] | None = None) -> dict[str, Gaussian | Coreset]:
        """What the good parts added so far look like to these detectors, or to all; more may be added afterwards."""
        return {one: self._model(one) for one in self._detectors if detectors is None or one in detectors}

    def _model(self, detector: str) -> Gaussian | Coreset:
        if detector in self._candidates:
            return self._members(detector)
        gaussian = self._moments[detector].gaussian()
        return Gaussian(gaussian.mean, tuple(map(_kept, gaussian.blocks))) if detector == POSITION else gaussian

    def _draw(self, tiles: int, places: int) -> Indices:
        """(N, drawn) random places of each tile, the same ones in every view."""
        return self._rng.permuted(np.tile(np.arange(places), (tiles, 1)), axis=1)[:, : self._drawn]

    def _members(self, detector: str) -> Coreset:
        candidates, origins = (np.concatenate(kept[detector]) for kept in (self._candidates, self._origins))
        members, where = [], []
        for v in range(candidates.shape[1]):
            of_view = np.ascontiguousarray(candidates[:, v], np.float32)
            chosen = _commonest_first(of_view, greedy_coreset(of_view, self._coreset))
            members.append(of_view[chosen])
            where.append(origins[chosen])
        return Coreset(np.stack(members), np.stack(where))


def _taken(samples: Array, drawn: Indices) -> npt.NDArray[np.float16]:
    """(N, V, P, D), (N, drawn) -> (N · drawn, V, D)."""
    taken = np.take_along_axis(samples, drawn[:, None, :, None], axis=2).transpose(0, 2, 1, 3)
    return np.asarray(taken.reshape(-1, samples.shape[1], samples.shape[3]), KEPT)  # there may be many


def _commonest_first(samples: Array, chosen: Indices) -> Indices:
    """`chosen` of the (n, D) samples, those first that most of them are nearest to; some thousands of samples tell."""
    members, some = samples[chosen], samples[:: -(-len(samples) // _TELLING)]
    nearest = (some @ members.T - np.square(members).sum(axis=1) / 2).argmax(axis=1)
    return np.asarray(chosen[np.argsort(-np.bincount(nearest, minlength=len(chosen)), kind="stable")], np.intp)


def _origins(whose: Indices, drawn: Indices, grid: int) -> Indices:
    """(N, 2) pictures and tiles, (N, drawn) places -> (N · drawn, 4) as a coreset has them."""
    pictures, tiles = (np.broadcast_to(column[:, None], drawn.shape) for column in whose.T)
    return np.stack([pictures, tiles, drawn // grid, drawn % grid], axis=-1).reshape(-1, 4)


def _kept(values: Array) -> Array:
    """Rounded to what a bank's file keeps, so that a bank scores the same before it is written and after it is read."""
    return values.astype(KEPT).astype(np.float32)


def auroc(good: Values, bad: Values) -> float:
    """The probability that a bad part scores higher than a good one, a tie counting half (Mann-Whitney); both (n,)."""
    ordered = np.sort(good)
    below = np.searchsorted(ordered, bad, side="left")
    not_above = np.searchsorted(ordered, bad, side="right")
    return float((below + not_above).sum() / (2 * len(good) * len(bad)))


def weigh(
    detectors: Sequence[str], clean: Sequence[Array], pasted: Sequence[Array]
) -> tuple[dict[str, float], dict[str, float]]:
    """Each detector's share of the score, by how well it alone tells good pictures from the same with an anomaly.

    A share is proportional to 1 / (1 − AUROC + 0.02)²: where one misses half as much as another, it counts nearly four
    times as much; where none is better, all count alike. Two corrections, because pasted anomalies do not tell all:
    `learned` was trained on such, so it counts as if it missed 0.05 more; and they are small, so `frame`, which sees
    what lies there at all, has a twentieth of the score at least.

    Args:
        detectors: the K to weigh.
        clean: for each product, (n, K) distances of good pictures.
        pasted: for each product, (m, K) distances of pictures with an anomaly pasted in.

    Returns:
        The shares, which sum to 1, and the AUROC of each detector, a mean over products; both by name.
    """
    found = {
        detector: float(np.mean([auroc(good[:, k], bad[:, k]) for good, bad in zip(clean, pasted, strict=True)]))
        for k, detector in enumerate(detectors)
    }
    doubts = {one: _DOUBT + (_LEARNED_DOUBT if one == LEARNED else 0) for one in detectors}
    votes = {one: (1 - value + doubts[one]) ** -2 for one, value in found.items()}
    if FRAME in votes:
        votes[FRAME] = max(votes[FRAME], _FRAME / (1 - _FRAME) * (sum(votes.values()) - votes[FRAME]))
    total = sum(votes.values())
    return {one: vote / total for one, vote in votes.items()}, {one: round(value, 4) for one, value in found.items()}
