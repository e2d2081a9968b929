"""From a picture's file to the square RGB frames that an engine takes; training and serving share it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from quarterturn.worker.contract.arrays import Frames, Picture
from quarterturn.worker.contract.errors import DataError, FrameError
from quarterturn.worker.contract.framing import Framing, cut
from quarterturn.worker.contract.picture import BitDepth, Decoded, Region
from quarterturn.worker.pictures.decode import decode


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


def read_picture(path: Path, region: Region | None = None, bit_depth: BitDepth | None = None) -> Picture:
    """The picture file at `path`, cropped to `region`, as (H, W, 3) uint8 RGB; `bit_depth` as `decode` takes it.

    Raises:
        DataError: the file cannot be read, is no picture, or is smaller than the region; the text names it.
    """
    return read_decoded(path, region, bit_depth).picture


def read_decoded(path: Path, region: Region | None = None, bit_depth: BitDepth | None = None) -> Decoded:
    """As `read_picture`, and what the picture was before it was decoded."""
    seen = _decoded(path, bit_depth)
    try:
        return replace(seen, picture=crop(seen.picture, region))
    except FrameError as error:
        raise _refused(path, error) from error


def read_frames(
    path: Path, framing: Framing, region: Region | None = None, bit_depth: BitDepth | None = None
) -> Frames:
    """The picture file at `path` as the (T, side, side, 3) frames of an engine.

    Raises:
        DataError: the file cannot be read, is no picture, or does not fit region or framing; the text names it.
    """
    picture = read_picture(path, region, bit_depth)
    try:
        return cut(picture, framing)[0]
    except FrameError as error:
        raise DataError(f"{path}: {error}") from error


def depth_doubt(path: Path, bit_depth: BitDepth | None) -> str:
    """A sentence where the samples of the picture file at `path` and `bit_depth` do not go together; else "".

    Raises:
        DataError: the file cannot be read or is no picture; the text names it.
    """
    doubt = _decoded(path, bit_depth).doubt
    return f"{path}: {doubt}" if doubt else ""


def _decoded(path: Path, bit_depth: BitDepth | None) -> Decoded:
    try:
        return decode(path.read_bytes(), bit_depth=bit_depth)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except FrameError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: FrameError) -> DataError:
    return DataError(f"{path}: {error}; replace or remove the file")
