"""From the bytes of a frame to its pixels: 8 bits, RGB or grey, whatever the file or the camera holds."""

from __future__ import annotations

import cv2
import numpy as np

from quarterturn.worker.contract.arrays import Picture, Pixels
from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.picture import BitDepth, Decoded, RawFormat
from quarterturn.worker.pictures.file import Stored, read_file, refuse_size
from quarterturn.worker.pictures.jpeg import Shrink, in_full
from quarterturn.worker.pictures.raw_pixels import format_of, unpack

_UNUSED_FROM = 1 << 12  # where no sample is as high, 16 bits hold 12 or fewer


def decode(
    data: bytes, raw: RawFormat | None = None, bit_depth: BitDepth | None = None, shrink: Shrink = in_full
) -> Decoded:
    """The picture in `data`, and what it was.

    Without `raw`, data is a JPEG, PNG, BMP, TIFF or WebP file, told by its content. Alpha is dropped, colours stay as
    written, an EXIF orientation is applied, of an animation the first picture counts. Of deeper samples the highest 8
    bits are kept. Where they lie in 16 bits, `bit_depth` says how many of these are used, 10, 12, 14 or 16; None: what
    the pixel format says, or all 16. A JPEG is decoded smaller by as much as `shrink` allows.

    Raises:
        FrameError: `empty`, `truncated`, `undecodable`, `too_many_pixels`, `bad_pixel_format`, `size_mismatch` or
            `bad_bit_depth`.
    """
    if not data:
        raise FrameError("empty", "the frame has no bytes; check the camera's encoder")
    if raw is None:
        stored = read_file(data, shrink)
        conversion = None
    else:
        layout = format_of(raw.pixel_format)
        refuse_size(raw.width, raw.height)
        stored, conversion = Stored(unpack(data, raw), layout.bits, layout.is_grey), layout.to_rgb
    bits = bit_depth or 16 if stored.bits == 16 else stored.bits
    pixels = _converted(_eight_bits(stored, bits), conversion)
    return Decoded(pixels, bits, stored.is_grey, _doubt(stored, bit_depth), stored.shrunk, stored.quality)


def decode_picture(data: bytes, raw: RawFormat | None = None, bit_depth: BitDepth | None = None) -> Picture:
    """`decode`, the picture alone."""
    return decode(data, raw, bit_depth).picture


def _eight_bits(stored: Stored, bits: int) -> Pixels:
    samples = stored.samples
    if samples.dtype == np.uint16:
        if bits < 16 and (highest := int(samples.max())) >> bits:
            raise FrameError(
                "bad_bit_depth",
                f"a sample is {highest}, but {bits} bits end at {(1 << bits) - 1}; set the camera's bit_depth to what "
                "it sends, or to 16 where it moves its bits to the high end",
            )
        samples = (samples >> (bits - 8)).astype(np.uint8)
    return ~samples if stored.is_negative else samples


def _doubt(stored: Stored, bit_depth: BitDepth | None) -> str:
    if bit_depth is not None and stored.bits not in (16, bit_depth):
        return f"samples have {stored.bits} bits, bit_depth says {bit_depth}; take the setting away, or mend the camera"
    if bit_depth is None and stored.bits == 16 and 0 < (highest := int(stored.samples.max())) < _UNUSED_FROM:
        least = 10 if highest < 1 << 10 else 12
        return (
            f"no sample of 16 bits is above {highest}, so the picture is nearly black; "
            f"if the camera has 10, 12 or 14 bits, set bit_depth: {least} or more"
        )
    return ""


def _converted(samples: Pixels, conversion: int | None) -> Pixels:
    if conversion is None:
        return samples
    try:
        return cv2.cvtColor(samples, conversion).astype(np.uint8, copy=False)
    except cv2.error as error:  # for example a Bayer picture of one row
        raise FrameError("undecodable", f"OpenCV refuses the pixels: {error.err}") from None
