"""What pictures are before anyone looks at what they show: their size, depth and colour, in a bank and from a camera."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import cv2
from pydantic import Field

from quarterturn.worker.contract.arrays import Frames
from quarterturn.worker.contract.decode import Decoded
from quarterturn.worker.contract.settings import Settings

Trait = Literal["size", "depth", "colour"]

_TINT = 2.0  # grey levels between the channels on average; less is white balance, or a JPEG's rounding


@dataclass(frozen=True, slots=True)
class Traits:
    """What one picture is: `size` (width, height) in pixels of what is looked at, `bits` of a sample as it came.

    `is_grey`: it came with one channel. `has_colour`: its channels differ; a colour camera's picture need not.
    """

    size: tuple[int, int]
    bits: int
    is_grey: bool
    has_colour: bool

    @classmethod
    def of(cls, seen: Decoded, frames: Frames) -> Traits:
        """Those of a decoded picture, cut to its region, whose tiles are `frames`."""
        height, width = seen.picture.shape[:2]
        return cls((width, height), seen.bits, seen.is_grey, not seen.is_grey and _is_tinted(frames))


def _is_tinted(frames: Frames) -> bool:
    red, green, blue = cv2.split(frames.reshape(-1, frames.shape[2], 3))
    return cv2.norm(red, green, cv2.NORM_L1) + cv2.norm(green, blue, cv2.NORM_L1) > _TINT * green.size


class PictureTraits(Settings):
    """What the good pictures of a bank were: least and most of each side, every depth, with and without colour."""

    widths: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
    heights: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
    bits: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=1)
    grey: bool
    colour: bool

    @classmethod
    def of(cls, pictures: Iterable[Traits]) -> PictureTraits:
        """Those of one picture or more."""
        every = list(pictures)
        widths, heights = zip(*(one.size for one in every), strict=True)
        return cls(
            widths=(min(widths), max(widths)),
            heights=(min(heights), max(heights)),
            bits=tuple(sorted({one.bits for one in every})),
            grey=any(not one.has_colour for one in every),
            colour=any(one.has_colour for one in every),
        )

    def differences(self, seen: Traits) -> dict[Trait, str]:
        """In which traits a picture differs from all of these, each with both values in words."""
        found: dict[Trait, str] = {}
        width, height = seen.size
        if not (self.widths[0] <= width <= self.widths[1] and self.heights[0] <= height <= self.heights[1]):
            found["size"] = f"{width}x{height} pixels are looked at, in the bank's pictures {self._sizes()}"
        if seen.bits not in self.bits:
            depths = " or ".join(map(str, self.bits))
            found["depth"] = f"a sample has {seen.bits} bits, in the bank's pictures {depths}"
        if seen.has_colour and not self.colour:
            found["colour"] = "its pictures have colour, those of the bank are grey"
        elif seen.is_grey and not self.grey:
            found["colour"] = "its pictures are grey, those of the bank have colour"
        return found

    def _sizes(self) -> str:
        """640x480, or 600 to 640 x 480."""
        told = [str(low) if low == high else f"{low} to {high}" for low, high in (self.widths, self.heights)]
        return ("x" if all(" " not in one for one in told) else " x ").join(told)
