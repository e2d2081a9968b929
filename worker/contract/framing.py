"""From a picture to the square frames that an engine takes, and from values per grid position back to the picture.

Where a frame is not the whole picture, all is laid on a lattice of units: a frame is 16 x 16 units, and a picture,
scaled, is a whole number of units high and wide. So the grid cells of overlapping tiles coincide, and no value has to
be interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from quarterturn.worker.contract.arrays import Frames, Pixels
from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.picture import in_colour
from quarterturn.worker.contract.settings import Settings

UNITS = 16  # a frame's side in units
OVERLAP = 2  # what neighbouring tiles share at least, in units: a defect on a seam lies within one of them
MAX_TILES = 64  # of one picture: they pass through the engine together


class Framing(Settings):
    """How a picture becomes square frames: squashed, whole with mirrored margins, or in overlapping tiles."""

    side: int = Field(ge=32, multiple_of=UNITS, description="of a frame, in pixels")
    fit: Literal["stretch", "letterbox", "tiles"] = "stretch"
    tiles: int = Field(default=1, ge=1, le=isqrt(MAX_TILES), description="that span the picture's shorter side")

    def takes(self, grid: int) -> bool:
        """Whether values on a grid of G x G places in each frame can be put together as those of the picture."""
        return self.fit == "stretch" or _is_on_lattice(grid)

    @model_validator(mode="after")
    def _tiles_need_their_fit(self) -> Framing:
        if self.fit != "tiles" and self.tiles != 1:
            raise ValueError(f"tiles = {self.tiles} has no effect with fit '{self.fit}'; set fit to 'tiles'")
        return self


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tiles of one picture lie, in units of side/16 pixels of the scaled picture.

    `height` and `width` are the picture's; `corners` are the (row, column) of each tile's upper left corner, in the
    order of the frames, and negative where a letterbox has its margin.
    """

    height: int
    width: int
    corners: tuple[tuple[int, int], ...]

    def stitch(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The values of all tiles as one map of the picture, overlaps averaged and margins cut off.

        Args:
            values: (T, ..., P), tile by tile the values at P = G·G positions, row by row; G divides 16 or is a
                multiple of it, unless one tile is the whole picture.

        Returns:
            (..., height·r, width·r) with r = max(1, G/16) cells a unit, a copy; or (..., G, G), a view into `values`,
            where one tile is the whole picture.

        Raises:
            ValueError: T is not the number of tiles, or P is no such square.
        """
        grid = isqrt(values.shape[-1])
        is_grid = grid**2 == values.shape[-1] and (self == WHOLE or _is_on_lattice(grid))
        if values.shape[0] != len(self.corners) or not is_grid:
            raise ValueError(
                f"values {values.shape} are not (T, ..., G·G) for T = {len(self.corners)} tiles "
                f"and a G that divides {UNITS} or is a multiple of it"
            )
        cells = values.reshape(*values.shape[:-1], grid, grid)
        if self == WHOLE:
            return cells[0, ...]
        if grid < UNITS:
            cells = cells.repeat(UNITS // grid, axis=-2).repeat(UNITS // grid, axis=-1)
        per_unit = max(1, grid // UNITS)
        total = np.zeros((*values.shape[1:-1], self.height * per_unit, self.width * per_unit), np.float32)
        times = np.zeros(total.shape[-2:], np.float32)
        for tile, (row, column) in zip(cells, self.corners, strict=True):
            rows, tile_rows = _common(row, self.height, per_unit)
            columns, tile_columns = _common(column, self.width, per_unit)
            total[..., rows, columns] += tile[..., tile_rows, tile_columns]
            times[rows, columns] += 1
        total /= times
        return total


WHOLE = Layout(UNITS, UNITS, ((0, 0),))
"""The layout of a picture that is one frame."""


def cut(pixels: Pixels, framing: Framing) -> tuple[Frames, Layout]:
    """The frames (T, side, side, 3) uint8 RGB of a picture, a copy, and where they lie in it.

    Raises:
        FrameError: `too_elongated`, if the picture takes more than `MAX_TILES` tiles.
    """
    layout = layout_of(pixels.shape[0], pixels.shape[1], framing)
    if framing.fit == "stretch":
        frames = [resize(pixels, framing.side, framing.side)]
    elif framing.fit == "letterbox":
        frames = [_letterbox(pixels, framing.side, layout)]
    else:
        frames = _cut_tiles(pixels, framing.side, layout)
    return np.stack([in_colour(frame) for frame in frames]), layout


def layout_of(height: int, width: int, framing: Framing) -> Layout:
    """Where the tiles of a picture of so many pixels lie: as `cut` cuts it.

    Raises:
        FrameError: `too_elongated`, if it takes more than `MAX_TILES` tiles.
    """
    rows, columns = _units(height, width, framing)
    if framing.fit == "stretch":
        return WHOLE
    if framing.fit == "letterbox":
        return Layout(rows, columns, ((-((UNITS - rows) // 2), -((UNITS - columns) // 2)),))
    needed = _tiles_along(rows) * _tiles_along(columns)
    if needed > MAX_TILES:  # said without its size: it may have been shrunk
        ratio = max(height, width) / min(height, width)
        raise FrameError(
            "too_elongated",
            f"the picture is {ratio:.1f} times as long as it is wide and takes {needed} tiles, more than {MAX_TILES}; "
            "look at a less elongated region, or set fewer tiles",
        )
    return Layout(rows, columns, tuple((row, column) for row in _starts(rows) for column in _starts(columns)))


def scaled_size(height: int, width: int, framing: Framing) -> tuple[int, int]:
    """Height and width in pixels to which `cut` scales a picture of (height, width) before it makes frames of it."""
    unit = framing.side // UNITS
    rows, columns = _units(height, width, framing)
    return rows * unit, columns * unit


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """A picture as (height, width, 3), or as (height, width) where it is grey, a copy.

    Shrinks with area averaging, so that thin structures do not alias away, and enlarges bilinearly.
    """
    # In two steps: OpenCV averages areas only where both sides shrink, and a long thin picture would alias.
    smaller = (min(pixels.shape[1], width), min(pixels.shape[0], height))
    shrunk = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def fitted(pixels: Pixels, longest: int) -> Pixels:
    """A picture with at most `longest` pixels on its longer side, a copy."""
    height, width = pixels.shape[:2]
    scale = min(1.0, longest / max(height, width))
    return resize(pixels, max(1, round(height * scale)), max(1, round(width * scale)))


def _is_on_lattice(grid: int) -> bool:
    return not UNITS % grid or not grid % UNITS


def _units(height: int, width: int, framing: Framing) -> tuple[int, int]:
    """How many units high and wide a picture of (height, width) is, once scaled."""
    if framing.fit == "stretch":
        return UNITS, UNITS
    if framing.fit == "letterbox":
        longer = max(height, width)
        return max(1, round(UNITS * height / longer)), max(1, round(UNITS * width / longer))
    spanned, shorter = framing.tiles * (UNITS - OVERLAP) + OVERLAP, min(height, width)
    return round(spanned * height / shorter), round(spanned * width / shorter)


def _letterbox(pixels: Pixels, side: int, layout: Layout) -> Pixels:
    """One frame with the whole picture in its middle; the margins mirror it, so that no edge is made up."""
    ((row, column),) = layout.corners
    bottom, right = UNITS - layout.height + row, UNITS - layout.width + column
    unit = side // UNITS
    scaled = resize(pixels, layout.height * unit, layout.width * unit)
    frame = cv2.copyMakeBorder(
        scaled, -row * unit, bottom * unit, -column * unit, right * unit, borderType=cv2.BORDER_REFLECT_101
    )
    return frame.astype(np.uint8, copy=False)


def _cut_tiles(pixels: Pixels, side: int, layout: Layout) -> list[Pixels]:
    """Overlapping tiles in row-major order."""
    unit = side // UNITS
    scaled = resize(pixels, layout.height * unit, layout.width * unit)
    corners = ((row * unit, column * unit) for row, column in layout.corners)
    return [scaled[y : y + side, x : x + side] for y, x in corners]


def _tiles_along(length: int) -> int:
    """How few tiles cover `length` >= 16 units and overlap by `OVERLAP` at least."""
    return -((OVERLAP - length) // (UNITS - OVERLAP))


def _starts(length: int) -> list[int]:
    """The first unit of each tile along `length` units: evenly spread, the first at 0, the last flush at the end."""
    gaps = _tiles_along(length) - 1
    return [tile * (length - UNITS) // gaps for tile in range(gaps + 1)] if gaps else [0]


def _common(start: int, length: int, per_unit: int) -> tuple[slice, slice]:
    """What a tile that begins at `start` shares with `length` units, in cells of the picture and of the tile."""
    first, end = max(start, 0), min(start + UNITS, length)
    return (
        slice(first * per_unit, end * per_unit),
        slice((first - start) * per_unit, (end - start) * per_unit),
    )
