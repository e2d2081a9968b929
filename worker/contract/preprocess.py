"""From the bytes of a picture to the square RGB frames that an engine takes; training and serving share it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from pydantic import Field

from quarterturn.worker.contract.arrays import Frames, Picture
from quarterturn.worker.contract.errors import DataError, FrameError
from quarterturn.worker.contract.framing import Framing, cut
from quarterturn.worker.contract.picture_header import jpeg_scans, picture_size
from quarterturn.worker.contract.settings import Settings

MAX_PIXELS = 100_000_000
"""Of one picture, so that few bytes cannot take all memory: 300 MB decoded."""

_MAX_SCANS = 64  # of a JPEG, so that few bytes cannot take all time

# GenICam PFNC names -> (bytes a pixel, OpenCV conversion to RGB or None where the pixels are RGB already).
# OpenCV names Bayer patterns by the first 2x2 block since 4.5.3 (BayerRGGB), as PFNC's BayerRG8 means it.
_PIXEL_FORMATS: dict[str, tuple[int, int | None]] = {
    "Mono8": (1, cv2.COLOR_GRAY2RGB),
    "Mono16": (2, cv2.COLOR_GRAY2RGB),
    "RGB8": (3, None),
    "BGR8": (3, cv2.COLOR_BGR2RGB),
    "RGBa8": (4, cv2.COLOR_RGBA2RGB),
    "BGRa8": (4, cv2.COLOR_BGRA2RGB),
    "BayerRG8": (1, cv2.COLOR_BayerRGGB2RGB),
    "BayerGR8": (1, cv2.COLOR_BayerGRBG2RGB),
    "BayerGB8": (1, cv2.COLOR_BayerGBRG2RGB),
    "BayerBG8": (1, cv2.COLOR_BayerBGGR2RGB),
}
PIXEL_FORMATS = tuple(_PIXEL_FORMATS)


@dataclass(frozen=True, slots=True)
class RawFormat:
    """The shape of raw pixels: width and height in pixels, `pixel_format` a GenICam PFNC name."""

    width: int
    height: int
    pixel_format: str


class Region(Settings):
    """The part of the picture to look at, in pixels from its upper left corner."""

    x: int = Field(ge=0)
    y: int = Field(ge=0)
    width: int = Field(gt=0)
    height: int = Field(gt=0)


def decode_picture(data: bytes, raw: RawFormat | None = None) -> Picture:
    """The picture in `data`, as (H, W, 3) uint8 RGB.

    Without `raw`, data is a JPEG, PNG, BMP, TIFF or WebP file, told by its content. Grey is spread to three channels,
    alpha is dropped, 16 bits are cut to 8, an EXIF orientation is applied, of an animation the first picture counts.

    Raises:
        FrameError: `empty`, `truncated`, `undecodable`, `too_many_pixels`, `bad_pixel_format` or `size_mismatch`.
    """
    if not data:
        raise FrameError("empty", "the frame has no bytes; check the camera's encoder")
    if raw is not None:
        return _decode_raw(data, raw)
    if _is_cut_off(data):
        raise FrameError("truncated", f"the picture ends early after {len(data)} bytes; check the camera's transfer")
    _refuse_bomb(data)
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise FrameError("undecodable", f"OpenCV refuses the picture: {error.err}") from None
    if picture is None:
        raise _no_picture(data)
    return picture.astype(np.uint8, copy=False)


def crop(picture: Picture, region: Region | None) -> Picture:
    """The part of `picture` (H, W, 3) in `region`, a view into it; the whole picture where that is None.

    Raises:
        FrameError: `region_outside`.
    """
    if region is None:
        return picture
    height, width = picture.shape[:2]
    if region.x + region.width > width or region.y + region.height > height:
        raise FrameError(
            "region_outside",
            f"the region ends at ({region.x + region.width}, {region.y + region.height}), "
            f"but the picture is {width}x{height}; correct the camera's region",
        )
    return picture[region.y : region.y + region.height, region.x : region.x + region.width]


def read_picture(path: Path, region: Region | None = None) -> Picture:
    """The picture file at `path`, cropped to `region`, as (H, W, 3) uint8 RGB.

    Raises:
        DataError: the file cannot be read, is no picture, or is smaller than the region; the text names it.
    """
    try:
        return crop(decode_picture(path.read_bytes()), region)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except FrameError as error:
        raise DataError(f"{path}: {error}; replace or remove the file") from error


def read_frames(path: Path, framing: Framing, region: Region | None = None) -> Frames:
    """The picture file at `path` as the (T, side, side, 3) frames of an engine.

    Raises:
        DataError: the file cannot be read, is no picture, or does not fit region or framing; the text names it.
    """
    picture = read_picture(path, region)
    try:
        return cut(picture, framing)[0]
    except FrameError as error:
        raise DataError(f"{path}: {error}") from error


def _decode_raw(data: bytes, raw: RawFormat) -> Picture:
    known = _PIXEL_FORMATS.get(raw.pixel_format)
    if known is None:
        raise FrameError(
            "bad_pixel_format", f"pixel_format {raw.pixel_format[:40]!r} is not one of {', '.join(PIXEL_FORMATS)}"
        )
    size, conversion = known
    _refuse_size(raw.width, raw.height)
    expected = raw.width * raw.height * size
    if raw.width <= 0 or raw.height <= 0 or len(data) != expected:
        raise FrameError(
            "size_mismatch",
            f"{raw.width}x{raw.height} {raw.pixel_format} takes {expected} bytes, but the frame has {len(data)}",
        )
    if raw.pixel_format == "Mono16":
        pixels = (np.frombuffer(data, "<u2") >> 8).astype(np.uint8).reshape(raw.height, raw.width)
    else:
        channels = () if size == 1 else (size,)
        pixels = np.frombuffer(data, np.uint8).reshape(raw.height, raw.width, *channels)
    if conversion is None:
        return pixels
    try:
        return cv2.cvtColor(pixels, conversion).astype(np.uint8, copy=False)
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
