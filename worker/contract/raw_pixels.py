"""Raw pixels, as a camera's sensor gives them: GenICam's PFNC names, and how their samples lie in the bytes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.errors import FrameError

Samples = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class RawFormat:
    """The shape of raw pixels: width and height in pixels, `pixel_format` a GenICam PFNC name."""

    width: int
    height: int
    pixel_format: str


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How one PFNC name lays out its samples.

    Attributes:
        bits: of a sample.
        bits_stored: that a sample takes in the bytes, on average.
        channels: samples of a pixel.
        to_rgb: OpenCV's conversion of the samples, None where they are RGB already.
    """

    bits: int
    bits_stored: int
    channels: int
    to_rgb: int | None

    @property
    def is_grey(self) -> bool:
        """Whether there is one channel of brightness."""
        return self.to_rgb == cv2.COLOR_GRAY2RGB


_GREY = cv2.COLOR_GRAY2RGB
# OpenCV names Bayer patterns by the first 2x2 block since 4.5.3 (BayerRGGB), as PFNC's BayerRG8 means it.
_BAYER = {
    "RG": cv2.COLOR_BayerRGGB2RGB,
    "GR": cv2.COLOR_BayerGRBG2RGB,
    "GB": cv2.COLOR_BayerGBRG2RGB,
    "BG": cv2.COLOR_BayerBGGR2RGB,
}
_FORMATS: dict[str, PixelFormat] = {
    "Mono8": PixelFormat(8, 8, 1, _GREY),
    "Mono10": PixelFormat(10, 16, 1, _GREY),
    "Mono12": PixelFormat(12, 16, 1, _GREY),
    "Mono14": PixelFormat(14, 16, 1, _GREY),
    "Mono16": PixelFormat(16, 16, 1, _GREY),
    "RGB8": PixelFormat(8, 8, 3, None),
    "BGR8": PixelFormat(8, 8, 3, cv2.COLOR_BGR2RGB),
    "RGBa8": PixelFormat(8, 8, 4, cv2.COLOR_RGBA2RGB),
    "BGRa8": PixelFormat(8, 8, 4, cv2.COLOR_BGRA2RGB),
    **{f"Bayer{order}8": PixelFormat(8, 8, 1, conversion) for order, conversion in _BAYER.items()},
}
PIXEL_FORMATS = tuple(_FORMATS)


def format_of(raw: RawFormat) -> PixelFormat:
    """What its name says.

    Raises:
        FrameError: `bad_pixel_format`.
    """
    known = _FORMATS.get(raw.pixel_format)
    if known is None:
        raise FrameError(
            "bad_pixel_format", f"pixel_format {raw.pixel_format[:40]!r} is not one of {', '.join(PIXEL_FORMATS)}"
        )
    return known


def unpack(data: bytes, raw: RawFormat, layout: PixelFormat) -> Samples:
    """The samples as (H, W) or (H, W, channels), uint8 or, of more than 8 bits, uint16; a view where that is possible.

    Raises:
        FrameError: `size_mismatch`.
    """
    expected = raw.width * raw.height * layout.channels * layout.bits_stored // 8
    if raw.width <= 0 or raw.height <= 0 or len(data) != expected:
        raise FrameError(
            "size_mismatch",
            f"{raw.width}x{raw.height} {raw.pixel_format} takes {expected} bytes, but the frame has {len(data)}",
        )
    samples = np.frombuffer(data, np.uint8 if layout.bits_stored == 8 else "<u2")
    return samples.reshape(raw.height, raw.width, *(() if layout.channels == 1 else (layout.channels,)))
