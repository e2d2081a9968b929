"""From the bytes of a picture to its pixels: 8-bit RGB, whatever the file or the camera holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Picture
from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.picture_header import jpeg_scans, picture_size
from quarterturn.worker.contract.raw_pixels import RawFormat, format_of, unpack

MAX_PIXELS = 100_000_000
"""Of one picture, so that few bytes cannot take all memory: 300 MB decoded."""

_MAX_SCANS = 64  # of a JPEG, so that few bytes cannot take all time


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture, and what it was before it became 8-bit RGB.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        bits: of a sample as it came: 8, 10, 12, 14 or 16.
        is_grey: whether there was one channel of brightness, alpha aside.
    """

    picture: Picture
    bits: int
    is_grey: bool


def decode(data: bytes, raw: RawFormat | None = None, bit_depth: int | None = None) -> Decoded:
    """The picture in `data`, and what it was.

    Without `raw`, data is a JPEG, PNG, BMP, TIFF or WebP file, told by its content. Grey is spread to three channels,
    alpha is dropped, an EXIF orientation is applied, of an animation the first picture counts. Of samples of more than
    8 bits the highest 8 are kept: of `bit_depth` bits where samples of 10, 12 or 14 lie in 16; None: of what the pixel
    format says, or all 16.

    Raises:
        FrameError: `empty`, `truncated`, `undecodable`, `too_many_pixels`, `bad_pixel_format` or `size_mismatch`.
    """
    if not data:
        raise FrameError("empty", "the frame has no bytes; check the camera's encoder")
    if raw is not None:
        return _decode_raw(data, raw, bit_depth)
    if _is_cut_off(data):
        raise FrameError("truncated", f"the picture ends early after {len(data)} bytes; check the camera's transfer")
    _refuse_bomb(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise FrameError("undecodable", f"OpenCV refuses the picture: {error.err}") from None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise _no_picture(data)
    bits = 8 if pixels.dtype == np.uint8 else bit_depth or 16
    is_grey = pixels.ndim == 2
    conversion = cv2.COLOR_GRAY2RGB if is_grey else cv2.COLOR_BGR2RGB
    return Decoded(_to_rgb(_eight_bits(pixels, bits), conversion), bits, is_grey)


def decode_picture(data: bytes, raw: RawFormat | None = None, bit_depth: int | None = None) -> Picture:
    """`decode`, the picture alone."""
    return decode(data, raw, bit_depth).picture


def _decode_raw(data: bytes, raw: RawFormat, bit_depth: int | None) -> Decoded:
    layout = format_of(raw)
    _refuse_size(raw.width, raw.height)
    bits = bit_depth or 16 if layout.bits == 16 else layout.bits
    samples = _eight_bits(unpack(data, raw, layout), bits)
    return Decoded(_to_rgb(samples, layout.to_rgb), bits, layout.is_grey)


def _eight_bits(samples: npt.NDArray[Any], bits: int) -> Picture:
    return samples.astype(np.uint8, copy=False) if bits == 8 else (samples >> (bits - 8)).astype(np.uint8)


def _to_rgb(samples: Picture, conversion: int | None) -> Picture:
    if conversion is None:
        return samples
    try:
        return cv2.cvtColor(samples, conversion).astype(np.uint8, copy=False)
    except cv2.error as error:  # for example a Bayer picture of one row
        raise FrameError("undecodable", f"OpenCV refuses the pixels: {error.err}") from None


def _refuse_bomb(data: bytes) -> None:
    """Refuse what takes far more memory or time to decode than its bytes suggest."""
    size = picture_size(data)
    if size is None:
        raise _no_picture(data)
    _refuse_size(*size)
    if (scans := jpeg_scans(data)) > _MAX_SCANS:
        raise FrameError("undecodable", f"the JPEG has {scans} scans, more than {_MAX_SCANS}; check the camera")


def _refuse_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise FrameError(
            "too_many_pixels",
            f"the picture claims {width}x{height} pixels, more than {MAX_PIXELS // 10**6} million; "
            "cut or shrink it at the camera",
        )


def _no_picture(data: bytes) -> FrameError:
    return FrameError(
        "undecodable", f"{len(data)} bytes are no JPEG, PNG, BMP, TIFF or WebP picture; raw pixels need headers"
    )


def _is_cut_off(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; OpenCV fills the missing rows with grey and says nothing."""
    if data.startswith(b"\xff\xd8"):
        # Compressed data holds no 0xFFD9; thumbnails, which do, come before the last start of scan (0xFFDA).
        return data.find(b"\xff\xd9", max(data.rfind(b"\xff\xda"), 0)) < 0
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-64:]
    return False
