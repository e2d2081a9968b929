"""What pictures are, whatever they show: their size, depth and colour, those of a bank and those of a camera."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import cv2
from pydantic import Field

from quarterturn.worker.contract.arrays import Frames
from quarterturn.worker.contract.picture import Decoded
from quarterturn.worker.contract.settings import Settings

Trait = Literal["picture_size", "picture_depth", "picture_colour"]

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
        return cls(seen.size, seen.bits, seen.is_grey, not seen.is_grey and _is_tinted(frames))


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

    def __str__(self) -> str:
        """For people: "640x480 pixels, 8 bits, grey"."""
        hues = [name for name, there in (("grey", self.grey), ("in colour", self.colour)) if there]
        return f"{self._sizes()} pixels, {self._depths()} bits, {' and '.join(hues)}"

    def differences(self, seen: Traits) -> dict[Trait, str]:
        """In which traits a picture differs from all of these, each with both values in words."""
        found: dict[Trait, str] = {}
        width, height = seen.size
        if _is_beyond(width, self.widths) or _is_beyond(height, self.heights):
            found["picture_size"] = f"{width}x{height} pixels are looked at, in the bank's pictures {self._sizes()}"
        if seen.bits not in self.bits:
            found["picture_depth"] = f"a sample has {seen.bits} bits, in the bank's pictures {self._depths()}"
        if seen.has_colour and not self.colour:
            found["picture_colour"] = "its pictures have colour, those of the bank are grey"
        elif seen.is_grey and not self.grey:
            found["picture_colour"] = "its pictures are grey, those of the bank have colour"
        return found

    def _depths(self) -> str:
        return " or ".join(map(str, self.bits))

    def _sizes(self) -> str:
        """640x480, or 600 to 640 x 480."""
        told = [str(low) if low == high else f"{low} to {high}" for low, high in (self.widths, self.heights)]
        return ("x" if all(" " not in one for one in told) else " x ").join(told)


def _is_beyond(length: int, known: tuple[int, int]) -> bool:
    """Whether a side is none of the bank's; where those vary, a little more is nothing to tell of."""
    low, high = known
    margin = (high - low) / 4
    return not low - margin <= length <= high + margin
