"""A picture as a camera gives it: how its samples lie, which part of it is looked at, and what it was once decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import Field

from quarterturn.worker.contract.arrays import Picture, Pixels
from quarterturn.worker.contract.settings import Settings

BitDepth = Literal[10, 12, 14, 16]
"""How many bits of a sample that takes 16 are used."""

Depth = Annotated[
    BitDepth | None,
    Field(description="bits that are used of samples in 16-bit files and of Mono16; None: all 16"),
]
"""A camera's setting; everything else says its depth itself."""


class Region(Settings):
    """The part of the picture to look at, in pixels from its upper left corner."""

    x: int = Field(ge=0)
    y: int = Field(ge=0)
    width: int = Field(gt=0)
    height: int = Field(gt=0)


@dataclass(frozen=True, slots=True)
class RawFormat:
    """The shape of raw pixels: width and height in pixels, `pixel_format` a GenICam PFNC name."""

    width: int
    height: int
    pixel_format: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture, and what it was before it had 8 bits.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, or (H, W) where it is grey.
        bits: of a sample as it came: 8, 10, 12, 14 or 16.
        is_grey: whether there was one channel of brightness, alpha aside.
        doubt: a sentence, where the samples and what is known of their depth do not go together; else "".
        shrunk: how many pixels of the file one of `pixels` stands for, along each side.
        quality: of a JPEG, 1 to 100, about as libjpeg counts; None of all else.
    """

    pixels: Pixels
    bits: int
    is_grey: bool
    doubt: str = ""
    shrunk: int = 1
    quality: int | None = None

    @property
    def picture(self) -> Picture:
        """(H, W, 3) uint8 RGB."""
        return in_colour(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is shown, in pixels of the file."""
        height, width = self.pixels.shape[:2]
        return width * self.shrunk, height * self.shrunk


def in_colour(pixels: Pixels) -> Picture:
    """(H, W, 3) uint8 RGB of pixels that may be grey."""
    return pixels if pixels.ndim == 3 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
