"""Detectors: how far an embedding lies from what good parts of one product look like, in each view.

- `frame`: ‖W(z − μ)‖₂ to the Gaussian of the frame's embedding, one for each orientation, of which each view has its
  own: arXiv 2105.08793, section 4.3, with the whitening W = L⁻¹ of the shrunk covariance;
- `nearest.<depth>`: the Euclidean distance of a place to the nearest in a coreset of all places;
- `position`: `frame`'s distance of a place to the Gaussian of its own position, at the deepest depth, along the first
  principal axes;
- `learned`: what the encoder itself learned to see in pasted anomalies; of any product.

The first sees the frame as a whole, the others place by place.
Shapes: N frames (or tiles of frames), V views, R orientations, P places, D dimensions, M members of a coreset.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Array, Indices
from quarterturn.worker.contract.embeddings import FRAME, LOGITS, PLACES, Embeddings
from quarterturn.worker.contract.manifest import EmbeddingSpec

NEAREST, POSITION, LEARNED = "nearest.", "position", "learned"

_POSITION_NUMBERS = 2**20  # of all Gaussians of one view: bounds the bank's size

KEPT = np.float16
"""The precision of members and of the whitenings of `position` in a bank's file: half the bytes, and fine enough."""

_COVARIANCE_FLOOR = 1e-9  # as in the method's published code; keeps a constant embedding invertible
_CHUNK = 256  # samples of a coreset whose distances are brought up to date together
_ROWS = 1024  # queries of one matrix product of the nearest-neighbour search: its result stays in the cache
_LOGIT_OFFSET = np.float32(20)  # a logit below −20 is as good as it gets; keeps distances above 0 for the harmonic mean


@dataclass(frozen=True)
class Gaussian:
    """One Gaussian, or one for each leading index: mean (..., D), lower triangular W (..., D, D), WᵀW = Σ⁻¹."""

    mean: Array
    whitening: Array


@dataclass(frozen=True)
class Coreset:
    """The features (V, M, D) of some normal places, such that no other lies far from all of them.

    float32, rounded to what `KEPT` can say: so a bank scores the same before it is written and after it is read.
    `origins` (V, M, 4) says where each was seen: picture, tile, row and column of the tile's grid, all from 0, as the
    unturned picture lies. Pictures are counted as the bank's gallery has them, -1 for one that it does not show.
    """

    members: Array
    origins: Indices


Normal = Mapping[str, Gaussian | Coreset]
"""What good parts of one product look like, to each detector that a bank fits. `position` is missing where a place is
not the same place of every part."""


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


def supported(spec: EmbeddingSpec) -> tuple[str, ...]:
    """The detectors that an engine's embeddings allow: of the frame, then place by place, from shallow to deep."""
    position = (POSITION,) if spec.places else ()
    learned = () if spec.logits is None else (LEARNED,)
    return (FRAME, *(NEAREST + depth for depth in spec.places), *position, *learned)


def position_axes(places: int, dimensions: int) -> int:
    """Along how many of the features' principal axes `position` looks, on a grid of P places: 128 of 8 x 8 places."""
    return min(dimensions, math.isqrt(_POSITION_NUMBERS // places))


def sees_places(detector: str) -> bool:
    """Whether it looks place by place."""
    return detector != FRAME


def samples_of(detector: str, embeddings: Embeddings) -> Array:
    """(N, V, P', D) what a detector that a bank fits compares; P' = 1 for `frame`, and R for V where it is to learn."""
    if detector == FRAME:
        return embeddings[FRAME][:, :, np.newaxis]
    if detector == POSITION:
        deepest = [values for name, values in embeddings.items() if name.startswith(PLACES)][-1]
        return deepest[..., : position_axes(*deepest.shape[2:])]
    return embeddings[PLACES + detector.removeprefix(NEAREST)]


def shape_of(detector: str, spec: EmbeddingSpec) -> tuple[int, int]:
    """(P', D) of what `samples_of` gives for one frame and view."""
    if detector == FRAME:
        return 1, spec.frame
    depth = list(spec.places.values())[-1] if detector == POSITION else spec.places[detector.removeprefix(NEAREST)]
    places, dimensions = depth.grid**2, depth.dimensions
    return places, position_axes(places, dimensions) if detector == POSITION else dimensions


def distances(detector: str, embeddings: Embeddings, normal: Normal) -> Array:
    """(N, V, P') the distances by one detector from the good parts of one product, never negative.

    Raises:
        ValueError: the product's good parts were not fitted for this detector.
    """
    if detector == LEARNED:
        return np.asarray(np.maximum(embeddings[LOGITS] + _LOGIT_OFFSET, 0), np.float32)
    samples = samples_of(detector, embeddings)
    model = normal.get(detector)
    if isinstance(model, Coreset):
        return _nearest(samples, model.members)
    if isinstance(model, Gaussian):
        views = slice(samples.shape[1])  # `frame` knows more orientations
        return _lengths(_whiten(samples, Gaussian(model.mean[views], model.whitening[views])))
    raise ValueError(f"the bank was not fitted for the detector {detector}")


def between_views(embeddings: Array, gaussian: Gaussian) -> Array:
    """(N, V, E) frame embeddings -> (N, V, R): the distance of each view to the Gaussian of each orientation."""
    count, views, dimensions = embeddings.shape
    rows = embeddings.reshape(count * views, dimensions) - gaussian.mean  # (R, N · V, E)
    by_gaussian = _lengths(rows @ gaussian.whitening[:, 0].swapaxes(-1, -2))
    return np.moveaxis(by_gaussian.reshape(len(gaussian.mean), count, views), 0, -1)


def greedy_coreset(samples: Array, size: int) -> npt.NDArray[np.intp]:
    """The indices of `size` of the (n, D) samples that leave none far: each next one is the farthest from those taken.

    The k-center greedy of Gonzalez 1985, as in PatchCore (arXiv 2106.08265, algorithm 1); it begins with the sample
    nearest to the mean. All indices, where n <= size.

    A sample's distance from those taken only shrinks, so an old one is a bound: samples are kept in chunks, of which
    only the one with the largest bound is brought up to date: a fraction of the plain algorithm's work.
    """
    if len(samples) <= size:
        return np.arange(len(samples))
    first = int(_nearest_squares(samples, samples.mean(axis=0, keepdims=True)).argmin())
    farness = _nearest_squares(samples, samples[first : first + 1])
    order = np.argsort(-farness)  # far ones together: the other chunks are seldom looked at
    farness, points = farness[order], samples[order]
    chunks = [slice(start, start + _CHUNK) for start in range(0, len(points), _CHUNK)]
    bounds = np.array([farness[chunk].max() for chunk in chunks])
    known = np.ones(len(chunks), np.intp)  # of the members, how many a chunk's distances know
    chosen, members = np.empty(size, np.intp), np.empty((size, samples.shape[1]), np.float32)
    chosen[0], members[0] = first, samples[first]
    for count in range(1, size):
        while known[widest := int(bounds.argmax())] < count:
            chunk = chunks[widest]
            nearer = _nearest_squares(points[chunk], members[known[widest] : count])
            np.minimum(farness[chunk], nearer, out=farness[chunk])
            known[widest], bounds[widest] = count, farness[chunk].max()
        place = chunks[widest].start + int(farness[chunks[widest]].argmax())
        chosen[count], members[count] = order[place], points[place]
    return np.sort(chosen)


def _nearest_squares(samples: Array, members: Array) -> Array:
    """(n, D), (m, D) -> (n,) the squared distance from each sample to the nearest member."""
    # ‖q − c‖² = ‖q‖² − 2 (q·c − ‖c‖²/2)
    closeness = samples @ members.T
    closeness -= np.square(members).sum(axis=1) / 2  # in place: it is large
    return np.asarray(np.square(samples).sum(axis=1) - 2 * closeness.max(axis=1), np.float32)


def _whiten(samples: Array, gaussian: Gaussian) -> Array:
    """(N, V, P, D) -> the same, whitened by the Gaussian of its view and place."""
    rows = (samples - gaussian.mean).transpose(1, 2, 0, 3)  # (V, P, N, D): one matrix product a Gaussian
    return np.asarray((rows @ gaussian.whitening.swapaxes(-1, -2)).transpose(2, 0, 1, 3), np.float32)


def _lengths(vectors: Array) -> Array:
    return np.asarray(np.sqrt(np.einsum("...d,...d->...", vectors, vectors)), np.float32)


def _nearest(samples: Array, members: Array) -> Array:
    def search(v: int, rows: Array) -> Array:
        found = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            found[part] = np.sqrt(np.maximum(_nearest_squares(rows[part], members[v]), 0))
        return found

    return _by_view(samples, search)


def _by_view(samples: Array, work: Callable[[int, Array], Array]) -> Array:
    """Apply `work(v, (N · P, D))` to each view and put the results back as (N, V, P)."""
    count, views, places, dimensions = samples.shape
    parts = [work(v, samples[:, v].reshape(count * places, dimensions)) for v in range(views)]
    return np.stack([part.reshape(count, places) for part in parts], axis=1)
