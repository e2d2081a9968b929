"""Raw pixels, as a camera's sensor gives them: GenICam's names, and how samples lie in the bytes.

Names and layouts: EMVA's Pixel Format Naming Convention (PFNC 2.x) and, for `…Packed`, GigE Vision 1.x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.picture import RawFormat

Samples = npt.NDArray[Any]
"""(H, W) or (H, W, channels), uint8 or uint16, as they came."""


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """What a name says.

    Attributes:
        bits: of a sample.
        stored: bits that a sample takes in the data: 8, 16, or as many as it has where samples are packed.
        channels: samples of a pixel.
        to_rgb: OpenCV's conversion of the samples to RGB, None where they are RGB or grey.
    """

    bits: int
    stored: int
    channels: int
    to_rgb: int | None

    @property
    def is_grey(self) -> bool:
        """Whether there is one channel of brightness."""
        return self.channels == 1 and self.to_rgb is None


# One sample a pixel. OpenCV names Bayer patterns by the first 2x2 block since 4.5.3, as PFNC's BayerRG8 means it.
_ONE_CHANNEL = {
    "Mono": None,
    "BayerRG": cv2.COLOR_BayerRGGB2RGB,
    "BayerGR": cv2.COLOR_BayerGRBG2RGB,
    "BayerGB": cv2.COLOR_BayerGBRG2RGB,
    "BayerBG": cv2.COLOR_BayerBGGR2RGB,
}
_LAYOUTS = {  # by what comes behind such a name: bits of a sample, and how many it takes
    "8": (8, 8),
    **{str(bits): (bits, 16) for bits in (10, 12, 14, 16)},
    "10p": (10, 10),
    "12p": (12, 12),
    "10Packed": (10, 12),
    "12Packed": (12, 12),
}
_FORMATS: dict[str, PixelFormat] = {
    **{
        f"{name}{ending}": PixelFormat(*layout, 1, conversion)
        for name, conversion in _ONE_CHANNEL.items()
        for ending, layout in _LAYOUTS.items()
    },
    "RGB8": PixelFormat(8, 8, 3, None),
    "BGR8": PixelFormat(8, 8, 3, cv2.COLOR_BGR2RGB),
    "RGBa8": PixelFormat(8, 8, 4, cv2.COLOR_RGBA2RGB),
    "BGRa8": PixelFormat(8, 8, 4, cv2.COLOR_BGRA2RGB),
}
PIXEL_FORMATS = tuple(_FORMATS)


def format_of(name: str) -> PixelFormat:
    """What the PFNC name of a pixel format says.

    Raises:
        FrameError: `bad_pixel_format`.
    """
    known = _FORMATS.get(name)
    if known is None:
        raise FrameError("bad_pixel_format", f"pixel_format {name[:40]!r} is not one of {', '.join(PIXEL_FORMATS)}")
    return known


def unpack(data: bytes, raw: RawFormat) -> Samples:
    """The samples in `data`; of 8 and 16 bits a view into it.

    Raises:
        FrameError: `bad_pixel_format` or `size_mismatch`.
    """
    layout = format_of(raw.pixel_format)
    count = raw.width * raw.height * layout.channels
    expected = -(-count * layout.stored // 8)
    if raw.width <= 0 or raw.height <= 0 or len(data) != expected:
        raise FrameError(
            "size_mismatch",
            f"{raw.width}x{raw.height} {raw.pixel_format} takes {expected} bytes, but the frame has {len(data)}",
        )
    if raw.pixel_format.endswith("Packed"):
        samples = _shared_bytes(data, count, layout.bits)
    elif raw.pixel_format.endswith("p"):
        samples = _bit_stream(data, count, layout.bits)
    else:
        samples = np.frombuffer(data, np.uint8 if layout.stored == 8 else "<u2")
    return samples.reshape(raw.height, raw.width, *(() if layout.channels == 1 else (layout.channels,)))


def _bit_stream(data: bytes, count: int, bits: int) -> Samples:
    """PFNC's `p`: sample after sample from the lowest bit of the first byte on, and no bit between them."""
    size = {10: 5, 12: 3}[bits]  # bytes after which a sample begins with a byte again
    groups = _groups(data, size)
    samples = np.empty((len(groups), size * 8 // bits), np.uint16)
    for n in range(samples.shape[1]):
        byte, shift = divmod(n * bits, 8)
        samples[:, n] = (groups[:, byte] | groups[:, byte + 1] << 8) >> shift & (1 << bits) - 1
    return samples.ravel()[:count]


def _shared_bytes(data: bytes, count: int, bits: int) -> Samples:
    """GigE Vision's `Packed`: of two samples the high bytes, and between them a byte with their low bits.

    That byte holds those of the first sample from bit 0 on, those of the second from bit 4 on.
    """
    groups, low = _groups(data, 3), bits - 8
    mask = (1 << low) - 1
    first = groups[:, 0] << low | groups[:, 1] & mask
    second = groups[:, 2] << low | groups[:, 1] >> 4 & mask
    return np.stack([first, second], axis=1).ravel()[:count]


def _groups(data: bytes, size: int) -> npt.NDArray[np.uint16]:
    """(n, size) bytes as uint16; the last group is filled up with zeros."""
    groups = np.zeros(-(-len(data) // size) * size, np.uint16)
    groups[: len(data)] = np.frombuffer(data, np.uint8)
    return groups.reshape(-1, size)
