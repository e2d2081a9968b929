"""The samples in a picture file, as they were written: JPEG, PNG, BMP, TIFF and WebP, told by their first bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.pictures import tiff_blocks
from quarterturn.worker.pictures.header import (
    Size,
    bmp_is_whole,
    bmp_size,
    png_is_grey,
    png_pixels,
    png_size,
    truncated,
    webp_is_whole,
    webp_size,
)
from quarterturn.worker.pictures.jpeg import Shrink, in_full, read_jpeg, upright
from quarterturn.worker.pictures.jpeg_header import JpegHeader
from quarterturn.worker.pictures.raw_pixels import Samples
from quarterturn.worker.pictures.tiff import BITS, PHOTOMETRIC, PREDICTOR, SAMPLE_FORMAT, SAMPLES, TILES, Tiff

MAX_PIXELS = 100_000_000
"""Of one picture, so that few bytes cannot take all memory: 300 MB decoded."""

_JPEG = b"\xff\xd8"
_PACKED = (10, 12, 14)  # bits of a TIFF's samples that OpenCV moves to the high end of 16
_DEPTHS = {1: range(1, 9), 2: (*_PACKED, 16)}  # bits of a TIFF's samples, by the bytes that they take once read
_UNSIGNED = 1  # sample format
_WHITE_IS_0, _RGB = 0, 2  # photometric interpretations; between them lies grey
_DIFFERENCES = 2  # predictor: each sample less the one before


@dataclass(frozen=True, slots=True)
class Stored:
    """What a file holds.

    Attributes:
        samples: (H, W) or (H, W, 3) RGB, uint8 or uint16, upright and without alpha.
        bits: of a sample; 16 where the file does not say how many of 16 are used.
        is_grey: whether there was one channel of brightness, alpha aside.
        is_negative: whether white is 0.
        shrunk: how many pixels of the file one of `samples` stands for, along each side.
        quality: of a JPEG, 1 to 100; else None.
    """

    samples: Samples
    bits: int
    is_grey: bool
    is_negative: bool = False
    shrunk: int = 1
    quality: int | None = None


def read_file(data: bytes, shrink: Shrink = in_full) -> Stored:
    """The samples of the picture file in `data`, not empty; those of a JPEG shrunk as `shrink` allows.

    Raises:
        FrameError: `truncated`, `undecodable` or `too_many_pixels`.
    """
    try:
        if data.startswith(_JPEG):
            return _jpeg(data, shrink)
        for signature, read in _READERS.items():
            if data.startswith(signature):
                return read(data)
    except (struct.error, IndexError):
        raise truncated(f"{len(data)} bytes do not hold its headers") from None
    raise FrameError(
        "undecodable", f"{len(data)} bytes are no JPEG, PNG, BMP, TIFF or WebP picture; raw pixels need headers"
    )


def refuse_size(width: int, height: int) -> None:
    """Refuse what takes far more memory than its bytes suggest, by `too_many_pixels`."""
    if width * height > MAX_PIXELS:
        raise FrameError(
            "too_many_pixels",
            f"the picture claims {width}x{height} pixels, more than {MAX_PIXELS // 10**6} million; "
            "cut or shrink it at the camera",
        )


def _require_size(size: Size | None) -> None:
    if size is None or size[0] * size[1] <= 0:
        raise FrameError("undecodable", "the picture's headers give it no size; check the camera's encoder")
    refuse_size(*size)


def _too_short(data: bytes) -> FrameError:
    return truncated(f"its headers claim more than the {len(data)} bytes that are there")


def _jpeg(data: bytes, shrink: Shrink) -> Stored:
    header = JpegHeader.read(data)
    if header is None:
        raise truncated(f"{len(data)} bytes do not reach its pixels")
    _require_size(header.size)
    pixels, shrunk = read_jpeg(data, header, shrink)
    return Stored(pixels, 8, pixels.ndim == 2, shrunk=shrunk, quality=header.quality)


def _png(data: bytes) -> Stored:
    _require_size(png_size(data))
    samples = _try_opencv(png_pixels(data))
    if samples is None:  # every part is as it was written, but they do not make a picture
        raise truncated("what its parts hold does not fill it")
    return Stored(_to_rgb(samples), samples.itemsize * 8, png_is_grey(data))


def _bmp(data: bytes) -> Stored:
    _require_size(bmp_size(data))
    if not bmp_is_whole(data):
        raise _too_short(data)
    samples = _by_opencv(data)
    return Stored(samples, 8, samples.ndim == 2)


def _webp(data: bytes) -> Stored:
    _require_size(webp_size(data))
    if not webp_is_whole(data):
        raise _too_short(data)
    return Stored(_by_opencv(data), 8, is_grey=False)


def _tiff(data: bytes) -> Stored:
    tiff = Tiff.read(data)
    _require_size(tiff.size if tiff else None)
    assert tiff is not None  # _require_size has seen to it
    _require_whole(tiff)
    bits, photometric = tiff.number(BITS, 1), tiff.number(PHOTOMETRIC, 1)
    if set(tiff.numbers(SAMPLE_FORMAT)) - {_UNSIGNED}:
        raise FrameError("undecodable", "the TIFF holds signed or floating-point numbers; save it as unsigned ones")
    if bits > 8 and (tiff_blocks.is_in_planes(tiff) or photometric > _RGB):
        raise FrameError("undecodable", f"the TIFF has {bits} bits, and not as grey or RGB pixels; save it as such")
    if bits == 16 and tiff.number(SAMPLES, 1) == 2:
        samples = _grey_with_alpha(tiff)
    else:
        samples = _by_opencv(tiff_blocks.without_alpha(tiff))
    if bits not in _DEPTHS[samples.itemsize] or set(tiff.numbers(BITS)) - {bits}:
        raise FrameError(
            "undecodable", "the TIFF's channels differ in depth, or have one that is not read; save it anew"
        )
    is_negative = photometric == _WHITE_IS_0 and bits > 8
    if bits in _PACKED:
        samples = (samples >> 8).astype(np.uint8)
    return Stored(samples, max(bits, 8), samples.ndim == 2, is_negative)


def _require_whole(tiff: Tiff) -> None:
    if not tiff_blocks.is_whole(tiff):
        raise _too_short(tiff.data)
    if tiff_blocks.is_checked(tiff) and (grey := tiff_blocks.as_grey(tiff)) and _try_opencv(grey) is None:
        raise truncated("a compressed strip or tile holds too few pixels")


def _grey_with_alpha(tiff: Tiff) -> Samples:
    """The grey of 16-bit grey with alpha, which OpenCV cuts to 8 bits: read as twice as many grey pixels."""
    pairs = None if TILES in tiff.places else _try_opencv(tiff_blocks.as_grey(tiff) or b"")
    if pairs is None:
        raise FrameError("undecodable", "the TIFF has 16 bits and alpha in a form that is not read; save it as PNG")
    grey = pairs[:, ::2]
    if tiff.number(PREDICTOR, 1) == _DIFFERENCES:
        grey = np.cumsum(grey, axis=1, dtype=np.uint16)
    return upright(grey, tiff.orientation)


_READERS: dict[bytes, Callable[[bytes], Stored]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"BM": _bmp,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"RIFF": _webp,
}


def _by_opencv(data: bytes) -> Samples:
    samples = _try_opencv(data)
    if samples is None or samples.dtype not in (np.uint8, np.uint16):
        raise FrameError("undecodable", f"OpenCV cannot read this picture of {len(data)} bytes; save it as PNG or JPEG")
    return _to_rgb(samples)


def _to_rgb(samples: Samples) -> Samples:
    return samples if samples.ndim == 2 else cv2.cvtColor(samples, cv2.COLOR_BGR2RGB, dst=samples)


def _try_opencv(data: bytes) -> Samples | None:
    """What OpenCV reads: upright, without alpha, (H, W) or (H, W, 3) BGR."""
    try:  # an empty `data` is an error, too
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        return None
