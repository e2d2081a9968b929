"""Registration: how a picture lies beside the mean of the good pictures of its product.

One step of image alignment (Lucas and Kanade 1981, as in Baker and Matthews 2004, section 2): beside the mean picture a
small motion changes the grey levels in proportion to their gradient, so four numbers are the least-squares fit of four
fixed pictures to the difference. That is exact for small motions and too small for large ones; it says which way a
camera was bumped, and about how far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Array, Frames
from quarterturn.worker.contract.framing import WHOLE, Layout

SIDE = 64  # of a small picture, in pixels
MOTIONS = ("x", "y", "turn", "size")
"""To the right and down in shares of the picture's width and height, clockwise in degrees, larger in shares."""

Small = npt.NDArray[np.uint8]

_SMOOTH = 1.5  # pixels of a small picture (sigma): so far a motion is seen in proportion
_BORDER = 4  # pixels at the edges that are not compared: what comes in there was not in the picture
_LEAST_CONTRAST = 1.0  # grey levels: a flat picture lies nowhere
_LEAST_GAIN = 0.25  # of the mean picture in this one: where hardly any of it is, the motion stays finite
_LIMITS = np.array([0.25, 0.25, 45.0, 0.5], np.float32)
_UNITS = np.array([1 / SIDE, 1 / SIDE, np.degrees(1), 1], np.float32)
_TRIED = np.array([0.05, 0.05, 5.0, 0.05])
"""A motion is told of a product only if one so large is more than the spread of its good pictures."""


def small_picture(frames: Frames, layout: Layout) -> Small:
    """(SIDE, SIDE) the grey picture whose (T, S, S, 3) uint8 RGB tiles these are, squashed to a square."""
    grey = [
        cv2.resize(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for one in frames
    ]
    if layout == WHOLE:
        return np.asarray(grey[0], np.uint8)
    whole = layout.stitch(np.stack(grey).reshape(len(grey), SIDE * SIDE).astype(np.float32))
    return np.asarray(np.rint(cv2.resize(whole, (SIDE, SIDE), interpolation=cv2.INTER_AREA)), np.uint8)


@dataclass(frozen=True)
class Registration:
    """Where the good parts of one product lie.

    `picture` (SIDE, SIDE) is the mean of their pictures, smoothed and each of one contrast. `told` (4,) is 1 for those
    `MOTIONS` that can be told of this product, else 0: parts that lie freely, or of which no two look alike, tell none.
    """

    picture: Array
    told: Array

    @classmethod
    def fit(cls, pictures: Sequence[Small], others: Sequence[Small]) -> Registration:
        """From (SIDE, SIDE) good pictures, one or more; `others` are good ones, too, to see what they tell."""
        mean = np.mean(np.stack([_prepared(one) for one in pictures]), axis=0, dtype=np.float64)
        found = cls(np.asarray(mean, np.float32), np.zeros(len(MOTIONS), np.float32))
        return cls(found.picture, found._told(others)) if len(others) > 1 else found

    @property
    def sentence(self) -> str:
        """What can be told, in words."""
        names = [name for name, told in zip(MOTIONS, self.told, strict=True) if told]
        return f"a camera that moves is seen by {', '.join(names)}" if names else "a camera that moves cannot be seen"

    def motion(self, picture: Small) -> Array:
        """(4,) how the (SIDE, SIDE) picture lies beside the mean, in the units of `MOTIONS`."""
        found = self._solver @ (_prepared(picture) - self.picture)[_INNER].ravel()
        motion = -found[: len(MOTIONS)] / max(1 + found[-1], _LEAST_GAIN)
        return np.asarray(np.clip(motion * _UNITS, -_LIMITS, _LIMITS), np.float32)

    @cached_property
    def _solver(self) -> Array:
        """(6, n) the least-squares fit of what motions, brightness and contrast change at n pixels."""
        down, right = (np.asarray(one) for one in np.gradient(self.picture))
        y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
        changes = (right, down, x * down - y * right, x * right + y * down, np.ones_like(self.picture), self.picture)
        return np.asarray(np.linalg.pinv(np.stack([one[_INNER].ravel() for one in changes], axis=1)), np.float32)

    def _told(self, pictures: Sequence[Small]) -> Array:
        """Which motions show in these pictures, beside how far apart these lie themselves."""
        still = np.stack([self.motion(one) for one in pictures])
        spread = np.asarray(still.std(axis=0))
        told = np.empty(len(MOTIONS), np.float32)
        for k, amount in enumerate(_TRIED):
            moved = np.stack([self.motion(_moved(one, k, amount)) for one in pictures])
            told[k] = np.median(moved[:, k] - still[:, k]) > max(float(spread[k]), amount / 2)
        return told


_INNER = (slice(_BORDER, SIDE - _BORDER), slice(_BORDER, SIDE - _BORDER))


def _prepared(picture: Small) -> Array:
    """Smoothed, and of one brightness and contrast."""
    smooth = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), _SMOOTH)
    inner = smooth[_INNER]
    return np.asarray((smooth - inner.mean()) / max(float(inner.std()), _LEAST_CONTRAST), np.float32)


def _moved(picture: Small, motion: int, amount: float) -> Small:
    """The picture after `amount` of one of the `MOTIONS`."""
    right, down, turn, size = amount * np.eye(len(MOTIONS))[motion]
    middle = ((SIDE - 1) / 2, (SIDE - 1) / 2)
    matrix = cv2.getRotationMatrix2D(middle, -turn, 1 + size)  # OpenCV turns the other way round
    matrix += np.array([[0, 0, right * SIDE], [0, 0, down * SIDE]])
    return cv2.warpAffine(picture, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE).astype(np.uint8)
