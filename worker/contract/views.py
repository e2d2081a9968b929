"""The views of a frame: their number, their order, how they compose, and the training labels.

View v of a frame is the frame, mirrored left to right if v >= 4, then turned by (v mod 4) quarter turns
counter-clockwise (`np.rot90`). A model with V views uses the first V of the eight.
Whether a part lies turned is told by R = max(V, 4) of them: one view is enough to compare with those of good parts.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

ROTATIONS = 4

Views = Literal[1, 2, 4, 8]
"""How many a model may have."""

_QUARTERS = (None, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)


def turn(frame: npt.NDArray[Any], view: int) -> npt.NDArray[Any]:
    """The given view of one frame (H, W, ...); a view into the same memory, not a copy."""
    return np.rot90(frame[:, ::-1] if view >= ROTATIONS else frame, k=view % ROTATIONS, axes=(0, 1))


def turned(frame: npt.NDArray[np.uint8], view: int) -> npt.NDArray[np.uint8]:
    """`turn` of one frame (H, W, 3), laid out in memory by rows; a copy, unless it is so already."""
    seen = cv2.flip(frame, 1) if view >= ROTATIONS else np.ascontiguousarray(frame)
    quarters = _QUARTERS[view % ROTATIONS]
    return np.asarray(seen if quarters is None else cv2.rotate(seen, quarters), np.uint8)


def turn_back(grid: npt.NDArray[Any], view: int) -> npt.NDArray[Any]:
    """What `turn` makes `grid` (H, W, ...) of; a view into the same memory, not a copy."""
    upright = np.rot90(grid, k=-(view % ROTATIONS), axes=(0, 1))
    return upright[:, ::-1] if view >= ROTATIONS else upright


def orientations(views: int) -> int:
    """R: in how many orientations good parts are known to an engine with V views."""
    return max(views, ROTATIONS)


def label(product: int, rotation: int, products: int) -> int:
    """The training label of (product, rotation): `rotation · C + product`, as in the method's published code."""
    return rotation * products + product


def compose(views: int) -> npt.NDArray[np.intp]:
    """(V, V) table: turning a frame by view g and then by view v is the same as turning it by `compose(V)[v, g]`.

    Defined for V = 4 and V = 8, where the views form a group.
    """
    probe = np.arange(4).reshape(2, 2)
    looks = [turn(probe, view).tobytes() for view in range(views)]
    return np.array(
        [[looks.index(turn(turn(probe, g), v).tobytes()) for g in range(views)] for v in range(views)], dtype=np.intp
    )


def place_order(views: int, positions: int) -> npt.NDArray[np.intp]:
    """(V, P) indices that turn the embedding grids of all views back.

    `grid[v][place_order(V, P)[v]]` lists the embeddings of view v in the order of the unturned frame, so that
    position p means the same place of the part in every view. P must be a square number.
    """
    side = round(positions**0.5)
    grid = np.arange(positions, dtype=np.intp).reshape(side, side)
    order = np.empty((views, positions), dtype=np.intp)
    for view in range(views):
        order[view, turn(grid, view).ravel()] = np.arange(positions)
    return order
