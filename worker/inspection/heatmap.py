"""Heat maps: where on the part a frame deviates, small enough to travel in an alert, and drawn over the picture.

A heat map is (h, w) float32 in thresholds: 1.0 is as bad as the alert threshold. It covers the whole picture, whatever
its own height and width.
"""

from __future__ import annotations

import base64
import struct
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Array, Picture
from quarterturn.worker.contract.errors import DataError

Value = TypeVar("Value", bound=np.generic)

THRESHOLD_LEVEL = 64  # the grey level of 1.0 in an encoded map; 255, the highest, means 3.98 or more
MAX_CELLS = 64  # on the longer side of an encoded map

_PNG = b"\x89PNG\r\n\x1a\n"
_SIZE = slice(16, 24)  # of a PNG: width and height, each as 4 bytes
_FAINTEST, _REDDEST = 0.5, 2.0  # thresholds: where colours begin and where they end
_OPACITY = 0.6  # from 1.5 thresholds on; the part stays visible below
# From bright to dark as it gets worse, so that the order shows in grey and to the colour-blind too.
_YELLOW, _RED = np.array([255, 235, 60], np.float32), np.array([200, 0, 20], np.float32)
_CONTOUR = (255, 255, 255)
_CONTOUR_SHARE = 1 / 400  # the contour's width, of the picture's shorter side


def encode(heat: Array) -> str:
    """`heat` (h, w) as base64 of an 8-bit grey PNG: value v becomes the level min(255, round(64 · v)).

    A map of more than 64 cells on its longer side is shrunk to 64; a cell then holds the maximum of those it replaces,
    so that no peak is lost.
    """
    levels = np.clip(np.rint(shrunk(heat, MAX_CELLS) * THRESHOLD_LEVEL), 0, 255).astype(np.uint8)
    return base64.b64encode(cv2.imencode(".png", levels)[1].tobytes()).decode("ascii")


def decode(text: str) -> Array:
    """The map (h, w) float32 that `encode` made `text` of, to 1/128 of a threshold below 3.98.

    Example:
        >>> decode(encode(np.array([[0, 1], [2, 9]], np.float32))).tolist()
        [[0.0, 1.0], [2.0, 3.984375]]

    Raises:
        DataError: `text` is no such map.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise DataError(f"heat map: '{text[:20]}' is no base64; take the field from the alert unchanged") from None
    # The size is read before the pixels: whoever may write to the topic must not make us fill the memory.
    if not data.startswith(_PNG) or len(data) < _SIZE.stop or max(struct.unpack(">II", data[_SIZE])) > MAX_CELLS:
        raise DataError(
            f"heat map: is no PNG of up to {MAX_CELLS}x{MAX_CELLS} px; take the field from the alert unchanged"
        )
    levels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if levels is None or levels.ndim != 2 or levels.dtype != np.uint8:
        raise DataError("heat map: is no 8-bit grey PNG, or a damaged one; take the field from the alert unchanged")
    return np.asarray(levels / THRESHOLD_LEVEL, np.float32)


def overlay(picture: Picture, heat: Array) -> Picture:
    """`picture` (H, W, 3) uint8 RGB with `heat` (h, w) laid over it, as a copy.

    Nothing is drawn below half a threshold; from there the colour grows opaque and turns from yellow to red, and a thin
    white line runs where the threshold is reached.

    Example:
        >>> overlay(np.zeros((30, 40, 3), np.uint8), np.ones((8, 8), np.float32)).shape
        (30, 40, 3)
    """
    height, width = picture.shape[:2]
    enlarged = _enlarged(heat, height, width)
    colour, opacity = _colours(enlarged)
    drawn = np.ascontiguousarray(np.rint(picture + (colour - picture) * opacity), np.uint8)
    _outline(drawn, enlarged, _CONTOUR)
    return drawn


def glaze(heat: Array, height: int, width: int) -> npt.NDArray[np.uint8]:
    """What `overlay` lays over a picture, by itself: (height, width, 4) uint8 RGBA, transparent where nothing is drawn.

    Example:
        >>> glaze(np.zeros((8, 8), np.float32), 30, 40)[..., 3].any()
        np.False_
    """
    enlarged = _enlarged(heat, height, width)
    colour, opacity = _colours(enlarged)
    drawn = np.ascontiguousarray(np.rint(np.concatenate([colour, 255 * opacity], axis=2)), np.uint8)
    _outline(drawn, enlarged, (*_CONTOUR, 255))
    return drawn


def _enlarged(heat: Array, height: int, width: int) -> Array:
    return np.asarray(cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _colours(enlarged: Array) -> tuple[Array, Array]:
    """Colour (H, W, 3) and opacity (H, W, 1), 0 to 1, of a map as large as the picture."""
    amount = np.clip((enlarged - _FAINTEST) / (_REDDEST - _FAINTEST), 0, 1)[..., None]
    return _YELLOW + (_RED - _YELLOW) * amount, _OPACITY * np.minimum(1.5 * amount, 1)


def _outline(drawn: npt.NDArray[np.uint8], enlarged: Array, colour: tuple[int, ...]) -> None:
    """A line where the threshold is reached."""
    outlines = cv2.findContours((enlarged >= 1).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
    cv2.drawContours(drawn, outlines, -1, colour, max(1, round(_CONTOUR_SHARE * min(drawn.shape[:2]))), cv2.LINE_AA)


def shrunk(values: npt.NDArray[Value], longest: int) -> npt.NDArray[Value]:
    """(h, w) values with at most `longest` on the longer side, by the maximum over blocks of nearly the same size."""
    longer = max(values.shape)
    for axis, cells in enumerate(values.shape if longer > longest else ()):
        fewer = max(1, round(cells * longest / longer))
        values = np.maximum.reduceat(values, np.arange(fewer) * cells // fewer, axis=axis)
    return values
