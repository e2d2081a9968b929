"""The arithmetic of scores: distances, aggregated over views and places, weighed as evidence, combined.

Shapes: B frames, N tiles of all frames, C products, K detectors, V views, R orientations, P places.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import ScoringSettings
from quarterturn.worker.contract.detectors import Normal, between_views, distances
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.framing import WHOLE, Layout
from quarterturn.worker.contract.gaussians import Gaussian
from quarterturn.worker.contract.views import compose

_TINY = np.float32(1e-12)  # a distance of exactly 0 stays finite in the harmonic mean
_LOG_9 = np.float32(np.log(9))  # the 90% quantile of the standard logistic distribution
_LOG_999 = np.float32(np.log(999))  # and minus its 0.1% quantile
_LOG_10 = np.float32(np.log(10))


@dataclass(frozen=True)
class Reading:
    """What the detectors say of one frame against every product, before it is weighed.

    `raw` (C, K): the frame's distance by each detector. `maps[k]` (C, h, w): the distance at each place, in the
    unturned frame.
    """

    raw: Array
    maps: tuple[Array, ...]


@dataclass(frozen=True)
class Appearance:
    """How a frame looks as a whole, by its embedding, beside the good parts of each product.

    `views` (C, V): the distance of each view to the good parts in that view. `distance` (C,): their aggregate.
    """

    views: Array
    distance: Array


def read(
    embeddings: Embeddings,
    layouts: Sequence[Layout],
    normals: Sequence[Normal],
    scoring: ScoringSettings,
    detectors: Sequence[str],
) -> list[Reading]:
    """The embeddings of the N tiles of B frames, in order -> one reading for each frame."""
    by_detector = []  # K times B maps and distances
    for detector in detectors:
        values = [aggregate(distances(detector, embeddings, normal), axis=1) for normal in normals]
        by_detector.append(by_frame(np.stack(values, axis=1), layouts, scoring.worst))
    return [
        Reading(np.stack([distance for _, distance in one], axis=-1), tuple(places for places, _ in one))
        for one in zip(*by_detector, strict=True)
    ]


def by_frame(values: Array, layouts: Sequence[Layout], worst: float) -> list[tuple[Array, Array]]:
    """(N, ..., P) values of the tiles of B frames, in order -> of each a map (..., h, w) and its distance (...)."""
    maps = [layout.stitch(values[tiles]) for layout, tiles in zip(layouts, spans(layouts), strict=True)]
    if all(layout == WHOLE for layout in layouts):  # all at once
        return list(zip(maps, over_places(values[..., np.newaxis], worst), strict=True))
    return [(one, over_places(one, worst)) for one in maps]


def appearances(by_view: Array, layouts: Sequence[Layout]) -> list[Appearance]:
    """The distances (N, C, V) of the N tiles of B frames, see `from_products` -> how each frame looks as a whole.

    The tile that is least like a good one counts.
    """
    by_tile = aggregate(by_view, axis=-1)
    return [Appearance(by_view[tiles].max(axis=0), by_tile[tiles].max(axis=0)) for tiles in spans(layouts)]


def orientations(whole: Array, layout: Layout, gaussian: Gaussian) -> Array | None:
    """The embeddings (T, V, E) of the T tiles of one frame, in order -> (R,).

    That is the aggregated distance from the good parts of one product if the part lay turned by each of the first R
    views; None where that is not to be told: several tiles, or a frame that would be laid out otherwise when turned.
    """
    if len(layout.corners) > 1 or layout.height != layout.width:
        return None
    return np.asarray(_by_orientation(between_views(whole, gaussian))[0], np.float32)


def spans(layouts: Sequence[Layout]) -> list[slice]:
    """Where the tiles of each frame lie among those of all."""
    ends = itertools.accumulate((len(layout.corners) for layout in layouts), initial=0)
    return [slice(first, end) for first, end in itertools.pairwise(ends)]


def aggregate(values: Array, axis: int) -> Array:
    """The harmonic mean V / Σ 1/d of the distances of all views, which is the paper's weighted average of them.

    Weights w ∝ 1/d over the views: Σ w d = V / Σ 1/d (arXiv 2105.08793, section 4.3).
    """
    inverse: Array = 1 / np.maximum(values, _TINY)
    return np.asarray(values.shape[axis] / inverse.sum(axis=axis), np.float32)


def over_places(maps: Array, worst: float) -> Array:
    """(..., h, w) distances -> (...): the mean of the worst share of the places, of one at least."""
    flat = maps.reshape(*maps.shape[:-2], math.prod(maps.shape[-2:]))
    count = how_many(flat.shape[-1], worst)
    return np.asarray(np.partition(flat, -count, axis=-1)[..., -count:].mean(axis=-1), np.float32)


def how_many(places: int, worst: float) -> int:
    """Of so many places those that count: the worst share, one at least."""
    return max(1, round(worst * places))


def fit_scale(raw: Array) -> Array:
    """(n, K) distances of good frames -> (K, 2): the median and spread of a logistic distribution for each detector.

    The spread is such that the distribution's 90% quantile is that of the distances.
    """
    median, high = np.quantile(raw.astype(np.float64), (0.5, 0.9), axis=0)
    spread = np.maximum((high - median) / _LOG_9, 1e-6 * np.maximum(1, np.abs(median)))
    return np.stack([median, spread], axis=-1).astype(np.float32)


def evidence(values: Array, scale: Array) -> Array:
    """How rare a distance is among good frames: −log₁₀ of the share of good frames beyond it.

    Under the logistic distribution of `scale` (..., 2) that share is 1 / (1 + exp((x − median) / spread)): near 0 for
    most good frames, 2 for one in a hundred, and rising evenly beyond what was ever seen. It only puts detectors on
    one scale; what is promised comes from calibration.
    """
    standard = (values - scale[..., 0]) / scale[..., 1]
    return np.asarray(np.logaddexp(np.float32(0), standard) / _LOG_10, np.float32)


def emptiness(values: Array, scale: Array) -> Array:
    """How much rarer than one in a thousand a distance is among good frames because it is so small: log₁₀, from 0.

    A frame that shows nothing, black or blank, has less of everything than any good part.
    """
    below = (scale[..., 0] - values) / scale[..., 1]
    return np.asarray(np.logaddexp(np.float32(0), below - _LOG_999) / _LOG_10, np.float32)


def combine(raw: Array, scale: Array, votes: npt.ArrayLike) -> Array:
    """(..., K) distances, (..., K, 2) scales, the detectors' shares -> (...) scores: their weighted mean evidence.

    A weighted form of Fisher's combination of p-values (Fisher 1925, section 21.1; Good 1955), in units of log₁₀. To it
    comes the emptiness that the detector says to which the frame shows least. Of none, K = 0, it is 0.
    """
    found = evidence(raw, scale) @ np.asarray(votes, np.float32)
    return np.asarray(found + emptiness(raw, scale).max(axis=-1, initial=0), np.float32)


def turn_ratio(orientations: Array) -> float:
    """(R,) distances by orientation -> that as the part lies, by the best other one: beyond 1 it looks turned."""
    return float(orientations[0] / np.maximum(orientations[1:].min(), _TINY))


def _by_orientation(between: Array) -> Array:
    """(N, V, R) distances of each view to the good parts in each orientation -> (N, R).

    If the part lies turned by g, its view v looks like view v∘g of a part that lies right.
    """
    views, count = between.shape[1:]
    seen = _compose(count)[:views]  # [v, g] = v∘g
    return aggregate(between[:, np.arange(views)[:, np.newaxis], seen], axis=1)


_compose = cache(compose)  # found by turning pictures
