"""JPEG files to pixels, by libjpeg-turbo: its warnings tell half a picture from a whole one."""

from __future__ import annotations

import numpy as np
import simplejpeg

from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.pictures.header import truncated
from quarterturn.worker.pictures.jpeg_header import JpegHeader, mended
from quarterturn.worker.pictures.raw_pixels import Samples

_MAX_SCANS = 64  # so that few bytes cannot take all time
_ODD = ("unknown JFIF revision", "Unknown Adobe color transform", "Invalid SOS parameters")  # of whole pictures
_UNKNOWN = ("Unsupported", "Sorry", "Empty JPEG", "Maximum supported", "Could not determine", "Too many color")


def read_jpeg(data: bytes, header: JpegHeader) -> Samples:
    """The pixels of a JPEG file, upright: (H, W, 3) uint8 RGB, or (H, W) where it is grey.

    Raises:
        FrameError: `truncated` or `undecodable`.
    """
    if header.scans > _MAX_SCANS:
        raise FrameError("undecodable", f"the JPEG has {header.scans} scans, more than {_MAX_SCANS}; check the camera")
    if not header.is_whole:
        raise truncated("the JPEG lacks a scan")
    form = {1: "GRAY", 4: "CMYK"}.get(header.components, "RGB")
    try:
        pixels = _decode(data, form)
    except ValueError as error:
        if any(word in str(error) for word in _UNKNOWN):
            raise FrameError("undecodable", f"libjpeg cannot read this JPEG: {error}; write baseline JPEG") from None
        raise truncated(f"libjpeg says '{error}'") from None
    if form == "CMYK":  # written as a negative, as everyone does since Photoshop
        pixels = (pixels[..., :3].astype(np.uint16) * pixels[..., 3:] // 255).astype(np.uint8)
    return upright(pixels[..., 0] if form == "GRAY" else pixels, header.orientation)


def upright(pixels: Samples, orientation: int) -> Samples:
    """The pixels turned and mirrored as EXIF's `orientation`, 1 to 8, asks for; any other number asks for nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _decode(data: bytes, form: str) -> Samples:
    """Strictly, so the first warning ends it; of one about an odd header the header is mended, to hear the others."""
    pixels: Samples
    try:
        pixels = simplejpeg.decode_jpeg(data, form, strict=True)
    except ValueError as error:
        if not any(word in str(error) for word in _ODD):
            raise
        pixels = simplejpeg.decode_jpeg(mended(data), form, strict=True)
    return pixels
