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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Array, Indices
from quarterturn.worker.contract.embeddings import FRAME, LOGITS, PLACES, Embeddings
from quarterturn.worker.contract.gaussians import Gaussian
from quarterturn.worker.contract.manifest import EmbeddingSpec

NEAREST, POSITION, LEARNED = "nearest.", "position", "learned"

_POSITION_NUMBERS = 2**20  # of all Gaussians of one view: bounds the bank's size

KEPT = np.float16
"""The precision of members and of the whitenings of `position` in a bank's file: half the bytes, and fine enough."""

_CHUNK = 256  # samples of a coreset whose distances are brought up to date together
_ROWS = 256  # queries of one matrix product of the nearest-neighbour search: its result stays in the cache
_LOGIT_OFFSET = np.float32(20)  # a logit below −20 is as good as it gets; keeps distances above 0 for the harmonic mean


@dataclass(frozen=True)
class Coreset:
    """The features (V, M, D) of some normal places, such that no other lies far from all of them.

    float32, rounded to what `KEPT` can say: so a bank scores the same before it is written and after it is read.
    `lifted` (V, D + 1, M) is what a search multiplies with: each member c as a column, and −‖c‖²/2 below it. `members`
    looks into the same memory.
    The commonest come first, those that most good places are nearest to: a search may begin with a few of them, and a
    coreset in another order costs time and nothing else.
    `origins` (V, M, 4) says where each was seen: picture, tile, row and column of the tile's grid, all from 0, as the
    unturned picture lies. Pictures are counted as the bank's gallery has them, -1 for one that it does not show.
    """

    members: Array
    origins: Indices
    lifted: Array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        views, count, dimensions = self.members.shape
        lifted = np.empty((views, dimensions + 1, count), np.float32)
        lifted[:, :-1] = self.members.swapaxes(1, 2)
        lifted[:, -1] = np.square(lifted[:, :-1]).sum(axis=1) / -2
        object.__setattr__(self, "lifted", lifted)
        object.__setattr__(self, "members", lifted[:, :-1].swapaxes(1, 2))


Normal = Mapping[str, Gaussian | Coreset]
"""What good parts of one product look like, to each detector that a bank fits. `position` is missing where a place is
not the same place of every part."""


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


def output_of(detector: str, names: Iterable[str]) -> str:
    """Which of an engine's outputs, by their names from shallow to deep, a detector looks at."""
    if detector in (FRAME, LEARNED):
        return FRAME if detector == FRAME else LOGITS
    if detector == POSITION:
        return [name for name in names if name.startswith(PLACES)][-1]
    return PLACES + detector.removeprefix(NEAREST)


def samples_of(detector: str, embeddings: Embeddings) -> Array:
    """(N, V, P', D) what a detector that a bank fits compares; P' = 1 for `frame`, and R for V where it is to learn."""
    values = embeddings[output_of(detector, embeddings)]
    if detector == FRAME:
        return values[:, :, np.newaxis]
    return values[..., : position_axes(*values.shape[2:])] if detector == POSITION else values


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
        return _nearest(samples, model.lifted)
    if isinstance(model, Gaussian):
        ours = model[: samples.shape[1]]  # `frame` knows more orientations
        return np.moveaxis(ours.distances(samples.transpose(1, 2, 0, 3)), -1, 0)
    raise ValueError(f"the bank was not fitted for the detector {detector}")


def from_products(embeddings: Array, gaussians: Gaussian) -> Array:
    """(N, V, E) frame embeddings -> (N, C, V): the distance of each view to its own Gaussian of each of C products."""
    ours = gaussians[:, : embeddings.shape[1], 0]  # (C, V, E)
    return np.moveaxis(ours.distances(embeddings.swapaxes(0, 1)), -1, 0)


def between_views(embeddings: Array, gaussian: Gaussian) -> Array:
    """(N, V, E) frame embeddings -> (N, V, R): the distance of each view to the Gaussian of each orientation."""
    count, views, dimensions = embeddings.shape
    by_gaussian = gaussian[:, 0].distances(embeddings.reshape(count * views, dimensions))  # (R, N · V)
    return np.moveaxis(by_gaussian.reshape(len(by_gaussian), count, views), 0, -1)


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


def _nearest(samples: Array, lifted: Array) -> Array:
    """(N, V, P, D), (V, D + 1, M) -> (N, V, P): the distance of each sample to the nearest member of its view."""
    closest = [closeness(samples[:, v], members) for v, members in enumerate(lifted)]
    return from_closeness(squares(samples), np.stack(closest, axis=1))


def squares(samples: Array) -> Array:
    """(..., D) -> (...): ‖q‖²."""
    return np.asarray(np.einsum("...d,...d->...", samples, samples), np.float32)


def closeness(samples: Array, lifted: Array) -> Array:
    """(..., D) samples and members (D + 1, M) of a coreset, `lifted` -> (...): the greatest q·c − ‖c‖²/2 of any member.

    The nearer c is to q, the greater it is, see `_nearest_squares`; of no member it is −∞. With a 1 behind q it is one
    matrix product.
    """
    queries = np.ones((samples[..., 0].size, len(lifted)), np.float32)
    queries[:, :-1] = samples.reshape(-1, samples.shape[-1])
    block = np.empty((min(_ROWS, len(queries)), lifted.shape[1]), np.float32)
    greatest = np.empty(len(queries), np.float32)
    for start in range(0, len(queries), _ROWS):
        part = queries[start : start + _ROWS]
        values = np.matmul(part, lifted, out=block[: len(part)])
        values.max(axis=1, out=greatest[start : start + _ROWS], initial=-np.inf)
    return greatest.reshape(samples.shape[:-1])


def from_closeness(squares: Array, closeness: Array) -> Array:
    """‖q‖² and the `closeness` of the nearest member -> its distance, never negative."""
    return np.asarray(np.sqrt(np.maximum(squares - 2 * closeness, 0)), np.float32)
