"""From embeddings to scores: distances, aggregated over views and positions, weighed as evidence, combined.

Shapes: B frames, N tiles of all frames, C products, K detectors, V views, P positions, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from worker.contract.bank import Bank, ScoringSettings
from worker.contract.detectors import Array, Detector, Normal, distances
from worker.contract.framing import Layout
from worker.contract.views import compose, place_order

_TINY = np.float32(1e-12)  # a distance of exactly 0 stays finite in the harmonic mean
_LOG_9 = np.float32(np.log(9))  # the 90% quantile of the standard logistic distribution
_LOG_10 = np.float32(np.log(10))


@dataclass(frozen=True)
class Reading:
    """What the detectors say of one frame against every product, before it is weighed.

    `raw` (C, K): the frame's distance by each detector. `maps[k]` (C, h, w): the distance at each place, in the
    unturned frame. `views` (C, V): the distance in each view alone, by the first detector.
    """

    raw: Array
    maps: tuple[Array, ...]
    views: Array


def read(
    embeddings: Array,
    layouts: Sequence[Layout],
    normals: Sequence[Normal],
    scoring: ScoringSettings,
    detectors: Sequence[Detector],
) -> list[Reading]:
    """(N, V, P, D) embeddings of the tiles of B frames, in order -> one reading for each frame."""
    tiles = np.cumsum([0, *(len(layout.corners) for layout in layouts)])
    by_view = distances(detectors, embeddings, normals, scoring.neighbours)  # K times (N, C, V, P')
    by_place = [aggregate(values, scoring.aggregate, axis=2) for values in by_view]  # K times (N, C, P')
    readings = []
    for layout, first, last in zip(layouts, tiles, tiles[1:], strict=False):
        maps = tuple(_whole(layout, values[first:last], scoring) for values in by_place)
        raw = np.stack([over_places(one, scoring.worst) for one in maps], axis=-1)
        views = over_places(_whole(layout, by_view[0][first:last], scoring), scoring.worst)
        readings.append(Reading(raw, maps, views))
    return readings


def aggregate(values: Array, how: str, axis: int = -1) -> Array:
    """Aggregate distances over the views: `harmonic` (V / Σ 1/d, the paper's weighted average), `mean` or `min`."""
    if how == "harmonic":
        inverse: Array = 1 / np.maximum(values, _TINY)
        return np.asarray(values.shape[axis] / inverse.sum(axis=axis), np.float32)
    if how == "mean":
        return np.asarray(values.mean(axis=axis), np.float32)
    return np.asarray(values.min(axis=axis), np.float32)


def over_places(maps: Array, worst: float) -> Array:
    """(..., h, w) distances -> (...): the mean of the worst share of the places, of one at least."""
    flat = maps.reshape(*maps.shape[:-2], -1)
    count = max(1, round(worst * flat.shape[-1]))
    return np.asarray(np.partition(flat, -count, axis=-1)[..., -count:].mean(axis=-1), np.float32)


def _whole(layout: Layout, values: Array, scoring: ScoringSettings) -> Array:
    """(T, ..., P) distances of one frame's tiles -> (..., h, w), above the frame's own median place if `relative`.

    A part that is unlike the others everywhere has a high median; a small defect stands out above its own part. A
    single place is taken as it is.
    """
    whole = layout.stitch(values)
    if scoring.relative and whole.shape[-1] * whole.shape[-2] > 1:
        whole = whole - np.median(whole, axis=(-2, -1), keepdims=True)
    return whole


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


def combine(raw: Array, scale: Array, detectors: Sequence[Detector]) -> Array:
    """(..., K) distances, (..., K, 2) scales -> (...) scores: the weighted mean evidence of the detectors.

    A weighted form of Fisher's combination of p-values (Fisher 1925, section 21.1; Good 1955), in units of log₁₀.
    """
    return np.asarray(evidence(raw, scale) @ weights(detectors), np.float32)


def weights(detectors: Sequence[Detector]) -> Array:
    """(K,), summing to 1: the bank's detectors look at the same features and share one vote, `learned` has another."""
    of_bank = [one != "learned" for one in detectors]
    votes = np.where(of_bank, 1 / max(1, sum(of_bank)), 1)
    return np.asarray(votes / votes.sum(), np.float32)


def frame_scores(readings: Sequence[Reading], bank: Bank) -> Array:
    """B readings -> (B, C) scores."""
    raw = np.stack([reading.raw for reading in readings]) if readings else np.empty((0, *bank.scales.shape[:2]))
    return combine(raw.astype(np.float32), bank.scales, bank.manifest.detectors)


def heat_map(reading: Reading, bank: Bank, product: int, threshold: float) -> Array:
    """(h, w): the evidence at each place, in thresholds: a frame that looked like that everywhere would be an alert.

    Detectors of coarser grids are interpolated between the middles of their places.
    """
    height, width = max((one.shape[-2:] for one in reading.maps), key=lambda grid: grid[1])
    parts = [
        cv2.resize(evidence(one[product], scale), (width, height), interpolation=cv2.INTER_LINEAR)
        for one, scale in zip(reading.maps, bank.scales[product], strict=True)
    ]
    mean = np.average(parts, axis=0, weights=weights(bank.manifest.detectors))
    return np.asarray(mean / np.maximum(threshold, _TINY), np.float32)


def read_frames(embeddings: Array, layouts: Sequence[Layout], bank: Bank) -> list[Reading]:
    """The readings of frames by the detectors that the bank has chosen."""
    return read(embeddings, layouts, bank.normals, bank.manifest.scoring, bank.manifest.detectors)


def by_orientation(embeddings: Array, layout: Layout, bank: Bank, product: int) -> Array | None:
    """(T, V, P, D) embeddings of one frame -> (V,): its score if the part lay turned by each of the views.

    If the part lies turned by g, its view v looks like view v∘g of a part that lies right; the first score is that of
    the part as it lies. None where V < 4 (turns were not told apart in training), or where a turned frame would be
    laid out otherwise.
    """
    count, views, positions, _ = embeddings.shape
    if views < 4 or count > 1 or layout.height != layout.width:
        return None
    table, places = compose(views), place_order(views, positions)
    orientations = np.concatenate([embeddings] * views)
    for g in range(views):
        orientations[g, table[:, g]] = embeddings[0][:, places[g]]
    one = bank.of_products([product])
    return frame_scores(read_frames(orientations, [layout] * views, one), one)[:, 0]


def turn_ratio(scores: Array) -> float:
    """(V,) scores by orientation -> that as the part lies, divided by the best other one: beyond 1 it looks turned."""
    return float(scores[0] / np.maximum(scores[1:].min(), _TINY))


def turn_ratios(embeddings: Array, layouts: Sequence[Layout], bank: Bank, product: int) -> Array:
    """The turn ratios of those frames that have one."""
    tiles = np.cumsum([0, *(len(layout.corners) for layout in layouts)])
    found = [
        by_orientation(embeddings[first:last], layout, bank, product)
        for layout, first, last in zip(layouts, tiles, tiles[1:], strict=False)
    ]
    return np.array([turn_ratio(scores) for scores in found if scores is not None], np.float32)
