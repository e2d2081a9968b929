"""What pictures are, whatever they show: size, depth, colour and compression, those of a bank and those of a camera."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import cv2
from pydantic import Field

from quarterturn.worker.contract.arrays import Frames
from quarterturn.worker.contract.picture import Decoded
from quarterturn.worker.contract.settings import Settings

Trait = Literal["picture_size", "picture_depth", "picture_colour", "picture_compression"]

_TINT = 2.0  # grey levels between the channels on average; less is white balance, or a JPEG's rounding
_QUALITY = 2  # of a JPEG: so much more or less is nothing to tell of


@dataclass(frozen=True, slots=True)
class Traits:
    """What one picture is: `size` (width, height) in pixels of what is looked at, `bits` of a sample as it came.

    `is_grey`: it came with one channel. `has_colour`: its channels differ; a colour camera's picture need not.
    `quality`: of a JPEG, 1 to 100; None where it came as anything else.
    """

    size: tuple[int, int]
    bits: int
    is_grey: bool
    has_colour: bool
    quality: int | None = None

    @classmethod
    def of(cls, seen: Decoded, frames: Frames) -> Traits:
        """Those of a decoded picture, cut to its region, whose tiles are `frames`."""
        return cls(seen.size, seen.bits, seen.is_grey, not seen.is_grey and _is_tinted(frames), seen.quality)


def _is_tinted(frames: Frames) -> bool:
    red, green, blue = cv2.split(frames.reshape(-1, frames.shape[2], 3))
    return cv2.norm(red, green, cv2.NORM_L1) + cv2.norm(green, blue, cv2.NORM_L1) > _TINT * green.size


class PictureTraits(Settings):
    """What the good pictures of a bank were: least and most of each side, every depth, with and without colour.

    `jpeg` is the least and most quality of those that were JPEGs, `other` whether some were not.
    """

    widths: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
    heights: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
    bits: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=1)
    grey: bool
    colour: bool
    jpeg: tuple[Annotated[int, Field(ge=1, le=100)], Annotated[int, Field(ge=1, le=100)]] | None
    other: bool

    @classmethod
    def of(cls, pictures: Iterable[Traits]) -> PictureTraits:
        """Those of one picture or more."""
        every = list(pictures)
        widths, heights = zip(*(one.size for one in every), strict=True)
        qualities = [one.quality for one in every if one.quality is not None]
        return cls(
            widths=(min(widths), max(widths)),
            heights=(min(heights), max(heights)),
            bits=tuple(sorted({one.bits for one in every})),
            grey=any(not one.has_colour for one in every),
            colour=any(one.has_colour for one in every),
            jpeg=(min(qualities), max(qualities)) if qualities else None,
            other=len(qualities) < len(every),
        )

    def __str__(self) -> str:
        """For people: "640x480 pixels, 8 bits, grey, no JPEG"."""
        hues = [name for name, there in (("grey", self.grey), ("in colour", self.colour)) if there]
        return f"{self._sizes()} pixels, {self._depths()} bits, {' and '.join(hues)}, {self._files()}"

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
        if not self._knows(seen.quality):
            kind = "no JPEG" if seen.quality is None else f"a JPEG of quality {seen.quality}"
            found["picture_compression"] = f"it is {kind}, the bank's pictures are {self._files()}"
        return found

    def _knows(self, quality: int | None) -> bool:
        """Whether pictures of this quality (None: no JPEG) are like some of these."""
        if quality is None:
            return self.other
        return self.jpeg is not None and not _is_beyond(quality, self.jpeg, _QUALITY)

    def _files(self) -> str:
        """No JPEG, JPEG of quality 90, or both."""
        if self.jpeg is None:
            return "no JPEG"
        jpeg = f"JPEG of quality {_span(*self.jpeg)}"
        return f"{jpeg} and others" if self.other else jpeg

    def _depths(self) -> str:
        return " or ".join(map(str, self.bits))

    def _sizes(self) -> str:
        """640x480, or 600 to 640 x 480."""
        told = [_span(*self.widths), _span(*self.heights)]
        return ("x" if all(" " not in one for one in told) else " x ").join(told)


def _is_beyond(number: int, known: tuple[int, int], least: int = 0) -> bool:
    """Whether a number is none of the bank's; `least` more, or a little where those vary, is nothing to tell of."""
    low, high = known
    margin = max(least, (high - low) / 4)
    return not low - margin <= number <= high + margin


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"
