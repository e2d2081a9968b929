"""How far the places of frames lie from good ones, which is searched for only as far as a score or a map hangs on it.

Shapes: N tiles of all frames, V views, P places, D dimensions, M members of a coreset.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quarterturn.worker.contract.arrays import Array, Mask
from quarterturn.worker.contract.detectors import (
    Coreset,
    Normal,
    closeness,
    distances,
    from_closeness,
    samples_of,
    squares,
)
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.framing import WHOLE, Layout
from quarterturn.worker.inspection.scoring import aggregate, how_many

_FEW = 12  # members are there for one that every place is compared with at first
_SUSPECTS = 6  # places are compared with all members for one that counts


def places(
    detector: str, embeddings: Embeddings, normal: Normal, layouts: Sequence[Layout], *, worst: float, median: float
) -> Array:
    """(N, P) distances of places by one detector from the good parts of one product, over the views.

    In a frame that is one whole tile, `nearest` is exact for the `worst` share of its places, and wherever it is above
    `median`, that of good frames. Elsewhere it may be a bound from above, which is below both: a frame's distance, see
    `over_places`, is exact, and so is its map wherever that shows more than half of the good frames do anywhere.
    In a frame of several tiles, or with margins, all is exact.
    """
    model = normal.get(detector)
    if not isinstance(model, Coreset):
        return aggregate(distances(detector, embeddings, normal), axis=1)
    whole = np.concatenate([np.full(len(layout.corners), layout == WHOLE) for layout in layouts])
    return _search(samples_of(detector, embeddings), model, whole, worst, median)


def _search(samples: Array, coreset: Coreset, whole: Mask, worst: float, median: float) -> Array:
    """(N, V, P, D) samples, and of each tile whether it is its whole frame -> (N, P), see `places`.

    All are compared with a few members, the commonest, which most good places are nearest to anyway: a bound from
    above. Those with the largest bounds are compared with all members; the least of them that counts says which others
    may count, too. Those are compared with twice as many, and again, until their bounds say that they do not.
    """
    members = coreset.lifted
    few, everyone = -(-members.shape[-1] // _FEW), members.shape[-1]
    squared = squares(samples)
    closest = np.stack([closeness(samples[:, v], one[:, :few]) for v, one in enumerate(members)], axis=1)
    found = aggregate(from_closeness(squared, closest), axis=1)

    def compare(where: Mask, others: slice) -> None:
        n, p = np.nonzero(where)
        for v, one in enumerate(members):
            closest[n, v, p] = np.maximum(closest[n, v, p], closeness(samples[n, v, p], one[:, others]))
        found[n, p] = aggregate(from_closeness(squared[n, :, p], closest[n, :, p]), axis=1)

    count = how_many(found.shape[1], worst)
    suspects = found >= _largest(found, min(_SUSPECTS * count, found.shape[1]))
    suspects |= ~whole[:, np.newaxis]
    compare(suspects, slice(few, everyone))
    limit = np.minimum(_largest(np.where(suspects, found, 0), count), median)
    may_count = ~suspects
    while few < everyone and (may_count := may_count & (found > limit)).any():
        compare(may_count, slice(few, 2 * few))
        few *= 2
    return found


def _largest(values: Array, nth: int) -> Array:
    """(N, P) -> (N, 1): the n-th largest of each row."""
    return np.asarray(np.partition(values, -nth, axis=1)[:, -nth, np.newaxis])
