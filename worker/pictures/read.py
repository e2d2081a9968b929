"""From a picture's file to the square RGB frames that an engine takes; training and serving share it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from quarterturn.worker.contract.arrays import Frames, Picture, Pixels
from quarterturn.worker.contract.errors import DataError, FrameError
from quarterturn.worker.contract.framing import Framing, cut
from quarterturn.worker.contract.picture import BitDepth, Decoded, RawFormat, Region
from quarterturn.worker.pictures.decode import decode, decode_picture
from quarterturn.worker.pictures.shrinking import shrinkage

_Seen = TypeVar("_Seen")


def see(
    data: bytes,
    framing: Framing,
    region: Region | None = None,
    bit_depth: BitDepth | None = None,
    raw: RawFormat | None = None,
) -> Decoded:
    """The picture in `data` as `cut` is to get it: cut to `region`, and a JPEG decoded no larger than `framing` needs.

    Whatever is scored or learned from comes through here, so that a score means the same everywhere.

    Raises:
        FrameError: as `decode` does, or `region_outside`.
    """
    seen = decode(data, raw, bit_depth, partial(shrinkage, region=region, framing=framing))
    return replace(seen, pixels=crop(seen.pixels, region, seen.shrunk))


def crop(pixels: Pixels, region: Region | None, shrunk: int = 1) -> Pixels:
    """The part of a picture in `region`, a view into it; the whole picture where that is None.

    Where the picture was `shrunk`, the region is still in pixels of the file, which `shrunk` divides.

    Raises:
        FrameError: `region_outside`.
    """
    if region is None:
        return pixels
    height, width = (length * shrunk for length in pixels.shape[:2])
    if region.x + region.width > width or region.y + region.height > height:
        raise FrameError(
            "region_outside",
            f"the region ends at ({region.x + region.width}, {region.y + region.height}), "
            f"but the picture is {width}x{height}; correct the camera's region",
        )
    top, left = region.y // shrunk, region.x // shrunk
    return pixels[top : top + region.height // shrunk, left : left + region.width // shrunk]


def read_picture(path: Path, region: Region | None = None, bit_depth: BitDepth | None = None) -> Picture:
    """The picture file at `path`, cropped to `region`, as (H, W, 3) uint8 RGB; `bit_depth` as `decode` takes it.

    Raises:
        DataError: the file cannot be read, is no picture, or is smaller than the region; the text names it.
    """
    return _of_file(path, lambda data: crop(decode_picture(data, bit_depth=bit_depth), region))


def read_seen(path: Path, framing: Framing, region: Region | None = None, bit_depth: BitDepth | None = None) -> Decoded:
    """The picture file at `path` as `see` sees it.

    Raises:
        DataError: the file cannot be read, is no picture, or is smaller than the region; the text names it.
    """
    return _of_file(path, lambda data: see(data, framing, region, bit_depth))


def read_frames(
    path: Path, framing: Framing, region: Region | None = None, bit_depth: BitDepth | None = None
) -> Frames:
    """The picture file at `path` as the (T, side, side, 3) frames of an engine.

    Raises:
        DataError: the file cannot be read, is no picture, or does not fit region or framing; the text names it.
    """
    pixels = read_seen(path, framing, region, bit_depth).pixels
    try:
        return cut(pixels, framing)[0]
    except FrameError as error:
        raise DataError(f"{path}: {error}") from error


def depth_doubt(path: Path, bit_depth: BitDepth | None) -> str:
    """A sentence where the samples of the picture file at `path` and `bit_depth` do not go together; else "".

    Raises:
        DataError: the file cannot be read or is no picture; the text names it.
    """
    doubt = _of_file(path, partial(decode, bit_depth=bit_depth)).doubt
    return f"{path}: {doubt}" if doubt else ""


def _of_file(path: Path, see_it: Callable[[bytes], _Seen]) -> _Seen:
    try:
        return see_it(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except FrameError as error:
        raise DataError(f"{path}: {error}; replace or remove the file") from error
