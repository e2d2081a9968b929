"""Detectors: how far an embedding lies from what good parts of one product look like, in each view.

Shapes: N frames (or tiles of frames), V views, P positions, D dimensions, M neighbours. Distances come as (N, V, P'),
where P' is the detector's own grid: P, or fewer where a detector looks at a coarser one (see `coarsen`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Detector = Literal["mahalanobis", "position", "knn", "learned"]
DETECTORS: tuple[Detector, ...] = get_args(Detector)

COARSEST = 8
"""Side of the grid that the bank's three detectors look at, at most; bounds the bank's size and their time."""

_COVARIANCE_FLOOR = 1e-9  # as in the method's published code; keeps a constant embedding invertible
_ROWS = 1024  # queries of one matrix product of the nearest-neighbour search: its result stays in the cache
_LOGIT_SCALE = 4.0
_LOGIT_OFFSET = 20.0  # a logit below −20 is as good as it gets; keeps distances above 0 for the harmonic mean
_SMALLEST_ONE = np.float32(1e-4)  # of a unit vector's part that was 1: features a thousand times as long as usual


@dataclass(frozen=True)
class Gaussian:
    """One Gaussian, or one for each leading index: mean (..., D), whitening (..., D, D) with WᵀW = Σ⁻¹."""

    mean: Array
    whitening: Array


@dataclass(frozen=True)
class Normal:
    """What good parts of one product look like.

    `everywhere` (V, D): one Gaussian a view for all positions together. `places` (V, P', D): one a view and position,
    None where pictures do not share one layout. `neighbours` (V, M, D): a greedy coreset of the normal embeddings,
    whitened by `everywhere`.
    """

    everywhere: Gaussian
    places: Gaussian | None
    neighbours: Array

    @property
    def detectors(self) -> tuple[Detector, ...]:
        """The detectors that these good parts support, but for `learned`, which an engine has or has not."""
        return ("mahalanobis", "knn") if self.places is None else ("mahalanobis", "position", "knn")


class Moments:
    """Sums from which Gaussians are fitted, one for each index of `shape`; takes samples batch by batch."""

    def __init__(self, *shape: int, dimensions: int) -> None:
        self.count = 0
        self._sum = np.zeros((*shape, dimensions))
        self._squares = np.zeros((*shape, dimensions, dimensions))

    def add(self, samples: Array) -> None:
        """Add samples (n, *shape, D)."""
        rows = np.moveaxis(samples, 0, -2).astype(np.float64)  # (*shape, n, D)
        self.count += len(samples)
        self._sum += rows.sum(axis=-2)
        self._squares += rows.swapaxes(-1, -2) @ rows

    def gaussian(self) -> Gaussian:
        """The Gaussians of all samples added, with their covariance shrunk towards a multiple of the identity.

        By OAS (Chen, Wiesel, Eldar, Hero 2010, IEEE TSP 58(10), eq. 23), which stays invertible with fewer samples
        than dimensions. W is the inverse of the Cholesky factor L of Σ = LLᵀ.
        """
        mean = self._sum / self.count
        empirical = self._squares / self.count - mean[..., :, None] * mean[..., None, :]
        dimensions = mean.shape[-1]
        scale = np.trace(empirical, axis1=-2, axis2=-1) / dimensions
        mean_square = np.mean(empirical**2, axis=(-2, -1))
        denominator = (self.count + 1) * (mean_square - scale**2 / dimensions)
        with np.errstate(divide="ignore", invalid="ignore"):
            shrinkage = np.minimum(1.0, (mean_square + scale**2) / denominator)
        shrinkage = np.where(denominator <= 0, 1.0, shrinkage)[..., None, None]
        diagonal = shrinkage * scale[..., None, None] + _COVARIANCE_FLOOR
        covariance = (1 - shrinkage) * empirical + diagonal * np.eye(dimensions)
        whitening = np.linalg.inv(np.linalg.cholesky(covariance))
        return Gaussian(mean.astype(np.float32), whitening.astype(np.float32))


def coarse_side(positions: int) -> int:
    """The side of the grid that the bank's detectors look at, for embeddings of P = `positions`."""
    return min(COARSEST, math.isqrt(positions))


def coarsen(embeddings: Array) -> Array:
    """(N, V, P, D) -> (N, V, P', D): the mean of square blocks of positions, at most 8 of them along a side."""
    count, views, positions, dimensions = embeddings.shape
    coarse = coarse_side(positions)
    block = math.isqrt(positions) // coarse
    if block == 1:
        return embeddings
    grid = embeddings.reshape(count, views, coarse, block, coarse, block, dimensions)
    return np.asarray(grid.mean(axis=(3, 5)).reshape(count, views, coarse**2, dimensions), np.float32)


def distances(
    detectors: Sequence[Detector], embeddings: Array, normals: Sequence[Normal], neighbours: int = 1
) -> list[Array]:
    """(N, V, P, D) embeddings, C products -> for each detector (N, C, V, P') distances, never negative.

    - `mahalanobis`: ‖W(z − μ)‖₂ to the Gaussian of all positions (with P = 1 it is arXiv 2105.08793, section 4.3, with
      the whitening W = L⁻¹ of the shrunk covariance);
    - `position`: the same to the Gaussian of the position;
    - `knn`: the mean Euclidean distance to the `neighbours` nearest normal embeddings, all whitened;
    - `learned`: what the encoder itself learned to see in pasted defects, see `learned_logits`; of any product.

    The bank's detectors look at the embeddings' features, coarsened.
    """
    found: dict[Detector, list[Array]] = {}
    if "learned" in detectors:
        logits = np.asarray(np.maximum(learned_logits(embeddings) + _LOGIT_OFFSET, 0), np.float32)
        found["learned"] = [logits] * len(normals)
    if not {"learned"}.issuperset(detectors):
        learned = embeddings.shape[-1] != normals[0].everywhere.mean.shape[-1]
        coarse = coarsen(features_of(embeddings) if learned else embeddings)
        for normal in normals:
            for detector, values in _to_normal(detectors, coarse, normal, neighbours).items():
                found.setdefault(detector, []).append(values)
    return [np.stack(found[detector], axis=1) for detector in detectors]


def _to_normal(detectors: Sequence[Detector], coarse: Array, normal: Normal, neighbours: int) -> dict[Detector, Array]:
    whitened = _whiten(coarse, normal.everywhere)
    found: dict[Detector, Array] = {}
    if "mahalanobis" in detectors:
        found["mahalanobis"] = _lengths(whitened)
    if "position" in detectors:
        if normal.places is None:
            raise ValueError("the bank holds no Gaussians for each position")
        found["position"] = _lengths(_by_position(coarse, normal.places))
    if "knn" in detectors:
        found["knn"] = _nearest(whitened, normal.neighbours, neighbours)
    return found


def learned_logits(embeddings: Array) -> Array:
    """(N, V, P, D) -> (N, V, P): the encoder's logit that a position shows something pasted.

    An encoder with local embeddings writes z = (ℓ/4, 1, f) / ‖(ℓ/4, 1, f)‖, so ℓ = 4 z₀ / z₁.
    """
    return np.asarray(_LOGIT_SCALE * embeddings[..., 0] / np.maximum(embeddings[..., 1], _SMALLEST_ONE), np.float32)


def features_of(embeddings: Array) -> Array:
    """(N, V, P, D) -> (N, V, P, D − 2): the features f in local embeddings, with the length they had: z₂… / z₁."""
    return np.asarray(embeddings[..., 2:] / np.maximum(embeddings[..., 1:2], _SMALLEST_ONE), np.float32)


def greedy_coreset(samples: Array, size: int) -> npt.NDArray[np.intp]:
    """The indices of `size` of the (n, D) samples that leave none far: each next one is the farthest from those taken.

    The k-center greedy of Gonzalez 1985, as in PatchCore (arXiv 2106.08265, algorithm 1); it begins with the sample
    nearest to the mean. All indices, where n <= size.
    """
    if len(samples) <= size:
        return np.arange(len(samples))
    squares = np.square(samples).sum(axis=1)

    def to(point: Array) -> Array:
        return np.asarray(squares - 2 * (samples @ point) + point @ point, np.float32)

    chosen = np.empty(size, np.intp)
    chosen[0] = to(samples.mean(axis=0)).argmin()
    farness = to(samples[chosen[0]])
    for place in range(1, size):
        chosen[place] = farness.argmax()
        np.minimum(farness, to(samples[chosen[place]]), out=farness)
    return np.sort(chosen)


def _by_view(embeddings: Array, work: Callable[[int, Array], Array]) -> Array:
    """Apply `work(v, (N · P, D))` to each view and put the results back as (N, V, P, ...)."""
    count, views, positions, dimensions = embeddings.shape
    parts = [work(v, embeddings[:, v].reshape(count * positions, dimensions)) for v in range(views)]
    return np.stack([part.reshape(count, positions, *part.shape[1:]) for part in parts], axis=1)


def _whiten(embeddings: Array, gaussian: Gaussian) -> Array:
    return _by_view(embeddings, lambda v, rows: (rows - gaussian.mean[v]) @ gaussian.whitening[v].T)


def _by_position(embeddings: Array, gaussian: Gaussian) -> Array:
    rows = (embeddings - gaussian.mean).transpose(1, 2, 0, 3)  # (V, P, N, D): one matrix product a Gaussian
    return np.asarray((rows @ gaussian.whitening.swapaxes(-1, -2)).transpose(2, 0, 1, 3), np.float32)


def _lengths(vectors: Array) -> Array:
    return np.asarray(np.sqrt(np.einsum("...d,...d->...", vectors, vectors)), np.float32)


def _nearest(whitened: Array, normal: Array, neighbours: int) -> Array:
    k = min(neighbours, normal.shape[1])
    # ‖q − c‖² = ‖q‖² − 2 (q·c − ‖c‖²/2); the bracket is one product of (q, 1) and (c, −‖c‖²/2).
    halves = np.square(normal).sum(axis=-1, keepdims=True) / -2
    table = np.concatenate([normal, halves], axis=-1).swapaxes(-1, -2)

    def search(v: int, rows: Array) -> Array:
        queries = np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1)
        found = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), _ROWS):
            closeness = queries[start : start + _ROWS] @ table[v]
            best = closeness.max(axis=1, keepdims=True) if k == 1 else np.partition(closeness, -k, axis=1)[:, -k:]
            squares = np.square(rows[start : start + _ROWS]).sum(axis=1, keepdims=True) - 2 * best
            found[start : start + _ROWS] = np.sqrt(np.maximum(squares, 0)).mean(axis=1)
        return found

    return _by_view(whitened, search)
