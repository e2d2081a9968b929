"""Writes TIFF files of any kind, field by field as TIFF 6.0 has them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

SHORT, LONG = 3, 4
WHITE_IS_0, BLACK_IS_0, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6


def tiff(
    blocks: Sequence[bytes],
    width: int,
    height: int,
    *,
    bits: Sequence[int] = (8,),
    photometric: int = BLACK_IS_0,
    compression: int = 1,
    rows: int | None = None,
    tile: tuple[int, int] | None = None,
    extra: Sequence[int] = (),
    tags: Mapping[int, Sequence[int]] | None = None,
    order: str = "<",
    last: bool = False,
) -> bytes:
    """A file of the strips or tiles `blocks`, its directory first, or `last` as most writers do.

    `tags` are further ones, or others than would be written.
    """
    places = (324, 325) if tile else (273, 279)
    fields: dict[int, Sequence[int]] = {
        256: [width],
        257: [height],
        258: bits,
        259: [compression],
        262: [photometric],
        277: [len(bits)],
        **({322: [tile[0]], 323: [tile[1]]} if tile else {278: [rows or height]}),
        **({338: extra} if extra else {}),
    }
    pixels = b"".join(blocks)
    start = (
        8
        if last
        else 8 + len(_directory({**fields, **{p: [0] * len(blocks) for p in places}, **(tags or {})}, 8, order))
    )
    starts = np.cumsum([start, *map(len, blocks)])[:-1].tolist()
    fields |= {places[0]: starts, places[1]: [len(block) for block in blocks], **(tags or {})}
    if last:
        pixels += b"\0" * (len(pixels) % 2)
    directory = _directory(fields, 8 + len(pixels) if last else 8, order)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8 + len(pixels) if last else 8)
    return head + (pixels + directory if last else directory + pixels)


def strips(picture: npt.NDArray[np.generic], rows: int, order: str = "<") -> list[bytes]:
    """The samples of `picture` (H, W) or (H, W, channels), `rows` rows a strip."""
    written = picture.astype(picture.dtype.newbyteorder(order))
    return [written[y : y + rows].tobytes() for y in range(0, len(picture), rows)]


def tiles(picture: npt.NDArray[np.generic], side: int) -> list[bytes]:
    """The same in square tiles, those at the edges filled up with zeros."""
    height, width = picture.shape[:2]
    padding = [(0, -height % side), (0, -width % side), *[(0, 0)] * (picture.ndim - 2)]
    whole = np.pad(picture, padding)
    return [whole[y : y + side, x : x + side].tobytes() for y in range(0, height, side) for x in range(0, width, side)]


def _directory(fields: Mapping[int, Sequence[int]], place: int, order: str) -> bytes:
    entries, values = b"", b""
    behind = place + 2 + 12 * len(fields) + 4
    for tag in sorted(fields):
        kind = LONG if tag in (256, 257, 273, 278, 279, 324, 325) else SHORT
        packed = struct.pack(f"{order}{len(fields[tag])}{'I' if kind == LONG else 'H'}", *fields[tag])
        inside = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(f"{order}I", behind + len(values))
        if len(packed) > 4:
            values += packed + b"\0" * (len(packed) % 2)
        entries += struct.pack(f"{order}HHI", tag, kind, len(fields[tag])) + inside
    return struct.pack(f"{order}H", len(fields)) + entries + struct.pack(f"{order}I", 0) + values
