"""From a picture's file to the square RGB frames that an engine takes; training and serving share it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import Field

from quarterturn.worker.contract.arrays import Frames, Picture
from quarterturn.worker.contract.decode import Decoded, decode
from quarterturn.worker.contract.errors import DataError, FrameError
from quarterturn.worker.contract.framing import Framing, cut
from quarterturn.worker.contract.settings import Settings


class Region(Settings):
    """The part of the picture to look at, in pixels from its upper left corner."""

    x: int = Field(ge=0)
    y: int = Field(ge=0)
    width: int = Field(gt=0)
    height: int = Field(gt=0)


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
    return read_decoded(path, region).picture


def read_decoded(path: Path, region: Region | None = None) -> Decoded:
    """As `read_picture`, and what the picture was before it was decoded."""
    try:
        seen = decode(path.read_bytes())
        return replace(seen, picture=crop(seen.picture, region))
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
