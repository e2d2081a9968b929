"""The worst place of a frame by each detector, and the good places of the bank that come nearest to it.

Shapes: T tiles, V views, P places, D dimensions, M members of a coreset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

import numpy as np

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.detectors import LEARNED, Coreset, distances, samples_of, shape_of
from quarterturn.worker.contract.embeddings import LOGITS, Embeddings, rows
from quarterturn.worker.contract.framing import UNITS, WHOLE, Framing, Layout, layout_of
from quarterturn.worker.contract.gallery import Gallery
from quarterturn.worker.explain.explanation import Box, GoodPlace, Place
from quarterturn.worker.inspection.scoring import aggregate

_NEAREST = 3  # good places that are shown beside a bad one, each of another picture


@dataclass(frozen=True, slots=True)
class _Spot:
    """A place of the frame as the engine sees it: on the grid of one of its tiles."""

    tile: int
    row: int
    column: int
    grid: int

    @property
    def place(self) -> int:
        return self.row * self.grid + self.column


def worst_place(
    detector: str, heat: Array, embeddings: Embeddings, layout: Layout, *, bank: Bank, product: int
) -> Place:
    """Where `heat` (h, w), in thresholds, is highest, and what the bank's `product` has that is nearest to it.

    `detector` sees places; `embeddings` are those of the frame's T tiles.
    """
    normal = bank.normals[product]
    row, column = (int(n) for n in np.unravel_index(int(heat.argmax()), heat.shape))
    seen = [  # the cell lies in each of these tiles
        (spot, distances(detector, rows(embeddings, [spot.tile]), normal)[0, :, spot.place])
        for spot in _spots(layout, row, column, _grid(detector, embeddings, bank))
    ]
    spot, views = max(seen, key=lambda one: float(aggregate(one[1], axis=0)))
    model = normal.get(detector)
    nearest: tuple[GoodPlace, ...] = ()
    if isinstance(model, Coreset):
        sample = samples_of(detector, rows(embeddings, [spot.tile]))[0, :, spot.place]
        nearest = tuple(_nearest(sample, model, bank.gallery[product], bank.manifest.spec.framing, spot.grid))
    return Place(
        detector,
        box_of(layout, spot.grid, spot.tile, spot.row, spot.column),
        thresholds=float(heat[row, column]),
        distance=float(aggregate(views, axis=0)),
        views=tuple(views.tolist()),
        nearest=nearest,
    )


def box_of(layout: Layout, grid: int, tile: int, row: int, column: int) -> Box:
    """Where a place of a tile's grid lies in the picture; one in a mirrored margin, where that mirrors it."""
    size = UNITS / grid
    (top, height), (left, width) = (
        _span(corner + place * size, size, length)
        for corner, place, length in zip(
            layout.corners[tile], (row, column), (layout.height, layout.width), strict=True
        )
    )
    return Box(left, top, width, height)


def _span(start: float, size: float, length: int) -> tuple[float, float]:
    """From where, and how far, `size` units from `start` on go in a picture of `length`, as shares of it."""
    middle = abs(start + size / 2) % (2 * length)
    middle = min(middle, 2 * length - middle)
    first, end = max(0.0, middle - size / 2), min(float(length), middle + size / 2)
    return first / length, (end - first) / length


def _grid(detector: str, embeddings: Embeddings, bank: Bank) -> int:
    """Places a side that a detector sees of a tile."""
    if detector == LEARNED:
        return isqrt(embeddings[LOGITS].shape[2])
    return isqrt(shape_of(detector, bank.manifest.spec)[0])


def _spots(layout: Layout, row: int, column: int, grid: int) -> Iterator[_Spot]:
    """The places that a cell of the stitched map is made of, see `Layout.stitch`."""
    if layout == WHOLE:
        yield _Spot(0, row, column, grid)
        return
    cells = max(1, grid // UNITS)  # of a unit
    for tile, corner in enumerate(layout.corners):
        down, across = row - cells * corner[0], column - cells * corner[1]
        if min(down, across) >= 0 and max(down, across) < cells * UNITS:
            yield _Spot(tile, down * grid // (cells * UNITS), across * grid // (cells * UNITS), grid)


def _nearest(sample: Array, model: Coreset, gallery: Gallery, framing: Framing, grid: int) -> Iterator[GoodPlace]:
    """The member nearest to the place (V, D), then the next ones from other pictures that can be shown."""
    apart = np.linalg.norm(model.members - sample[:, None], axis=-1)  # (V, M)
    seen: set[int] = set()
    for view, member in zip(*np.unravel_index(apart.argsort(axis=None), apart.shape), strict=True):
        number, tile, row, column = model.origins[view, member].tolist()
        if seen and (number in seen or number < 0):
            continue
        seen.add(number)
        picture = gallery[number] if number >= 0 else None
        box = None
        if picture is not None:
            box = box_of(layout_of(picture.height, picture.width, framing), grid, tile, row, column)
        yield GoodPlace(int(view), float(apart[view, member]), picture, box)
        if len(seen) == _NEAREST:
            return
