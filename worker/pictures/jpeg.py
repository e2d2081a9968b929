"""JPEG files to pixels, by libjpeg-turbo: its warnings tell half a picture from a whole one.

A file can be decoded at 1/2, 1/4 or 1/8 of its size: libjpeg then computes averages of the pixels, not the pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import simplejpeg

from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.pictures.header import truncated
from quarterturn.worker.pictures.jpeg_header import JpegHeader, mended
from quarterturn.worker.pictures.raw_pixels import Samples

_MAX_SCANS = 64  # so that few bytes cannot take all time
_ODD = ("unknown JFIF revision", "Unknown Adobe color transform", "Invalid SOS parameters")  # of whole pictures
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
_UNKNOWN = ("Unsupported", "Sorry", "Empty JPEG", "Maximum supported", "Could not determine", "Too many color")


Shrink = Callable[[int, int], int]
"""By how much a picture of (height, width) may be shrunk while it is decoded: 1, 2, 4 or 8, a divisor of both."""


def in_full(_height: int, _width: int) -> int:
    """The `Shrink` that changes nothing."""
    return 1


def read_jpeg(data: bytes, header: JpegHeader, shrink: Shrink) -> tuple[Samples, int]:
    """The pixels of a JPEG file, upright, and by how much they were shrunk: (H, W, 3) uint8 RGB, or (H, W) if grey.

    Raises:
        FrameError: `truncated` or `undecodable`.
    """
    if header.scans > _MAX_SCANS:
        raise FrameError("undecodable", f"the JPEG has {header.scans} scans, more than {_MAX_SCANS}; check the camera")
    if not header.is_whole:
        raise truncated("the JPEG lacks a scan")
    form = {1: "GRAY", 4: "CMYK"}.get(len(header.sampling), "RGB")
    width, height = header.size
    factor = 1
    if _averages(header):
        factor = shrink(width, height) if header.orientation in _SIDEWAYS else shrink(height, width)
    at_least = (height // factor, width // factor) if factor > 1 else (0, 0)
    try:
        pixels = _decode(data, form, at_least)
    except ValueError as error:
        if any(word in str(error) for word in _UNKNOWN):
            raise FrameError("undecodable", f"libjpeg cannot read this JPEG: {error}; write baseline JPEG") from None
        raise truncated(f"libjpeg says '{error}'") from None
    if form == "CMYK":  # written as a negative, as everyone does since Photoshop
        pixels = (pixels[..., :3].astype(np.uint16) * pixels[..., 3:] // 255).astype(np.uint8)
    return upright(pixels[..., 0] if form == "GRAY" else pixels, header.orientation), factor


def upright(pixels: Samples, orientation: int) -> Samples:
    """The pixels turned and mirrored as EXIF's `orientation`, 1 to 8, asks for; any other number asks for nothing."""
    if orientation in _SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _averages(header: JpegHeader) -> bool:
    """Whether libjpeg's smaller pictures are the averages of the pixels.

    Where colours have fewer samples across than down, or the other way round, it leaves them coarser than the rest;
    and a product of inks, which CMYK is, is not the product of their averages.
    """
    if len(header.sampling) not in (1, 3):
        return False
    across, down = header.sampling[0]
    return all(h * down == v * across for h, v in header.sampling)


def _decode(data: bytes, form: str, at_least: tuple[int, int]) -> Samples:
    """Strictly, so the first warning ends it; of one about an odd header the header is mended, to hear the others.

    The pixels are as many as libjpeg can make that are not fewer than `at_least`, (height, width); of 0, all.
    """
    height, width = at_least
    pixels: Samples
    try:
        pixels = simplejpeg.decode_jpeg(data, form, min_height=height, min_width=width, strict=True)
    except ValueError as error:
        if not any(word in str(error) for word in _ODD):
            raise
        pixels = simplejpeg.decode_jpeg(mended(data), form, min_height=height, min_width=width, strict=True)
    return pixels
