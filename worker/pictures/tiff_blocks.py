"""The strips or tiles of a TIFF file: whether they are all there, and what OpenCV must not misunderstand of them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from quarterturn.worker.pictures.tiff import (
    BITS,
    COMPRESSION,
    EXTRA_SAMPLES,
    FILL_ORDER,
    HEIGHT,
    PHOTOMETRIC,
    PLANES,
    SAMPLES,
    STRIP_ROWS,
    STRIP_SIZES,
    STRIPS,
    TILE_HEIGHT,
    TILE_SIZES,
    TILE_WIDTH,
    TILES,
    WIDTH,
    Tiff,
)

_UNCOMPRESSED = 1
_OF_BYTES = (5, 8, 32773, 32946)  # LZW, Deflate, PackBits, and Deflate as it was called before
_YCBCR = 6
_UNASSOCIATED = 2
_LONGEST = 1 << 20  # side of a picture that OpenCV reads, in pixels


@dataclass(frozen=True, slots=True)
class Blocks:
    """Strips or tiles: `rows` rows of `row_bytes` bytes each, `in_plane` of them over the picture, in `planes` planes.

    `starts` and `sizes` say where they lie in the file; what is missing there is missing here.
    """

    tiled: bool
    rows: int
    row_bytes: int
    in_plane: int
    planes: int
    starts: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, tiff: Tiff) -> Blocks:
        """Those of a file whose size is not 0; raises as `Tiff.numbers` does."""
        (width, height), tiled = (tiff.number(WIDTH, 0), tiff.number(HEIGHT, 0)), TILES in tiff.places
        bits, samples = max(tiff.numbers(BITS), default=1), tiff.number(SAMPLES, 1)
        planes = samples if is_in_planes(tiff) else 1
        block_width = max(tiff.number(TILE_WIDTH, 1), 1) if tiled else width
        rows = max(tiff.number(TILE_HEIGHT, 1), 1) if tiled else max(min(tiff.number(STRIP_ROWS, height), height), 1)
        return cls(
            tiled=tiled,
            rows=rows,
            row_bytes=-(-block_width * samples // planes * bits // 8),
            in_plane=-(-width // block_width) * -(-height // rows),
            planes=planes,
            starts=tiff.numbers(TILES if tiled else STRIPS),
            sizes=tiff.numbers(TILE_SIZES if tiled else STRIP_SIZES),
        )


def is_in_planes(tiff: Tiff) -> bool:
    """Whether a channel lies behind the other instead of beside it."""
    return tiff.number(PLANES, 1) != 1 and tiff.number(SAMPLES, 1) > 1


def is_whole(tiff: Tiff) -> bool:
    """Whether all strips or tiles lie within the file, and have their full length where they are not compressed.

    Raises:
        struct.error: even what says where they are lies outside.
    """
    blocks, height, end = Blocks.of(tiff), tiff.number(HEIGHT, 0), len(tiff.data)
    plain = tiff.number(COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED and tiff.number(PHOTOMETRIC, 1) != _YCBCR
    count = blocks.in_plane * blocks.planes
    sizes = blocks.sizes or (end,) * count  # some writers leave them out, since they can be computed
    if min(len(blocks.starts), len(sizes)) < count:
        return False
    for n in range(count):
        start, size = blocks.starts[n], sizes[n]
        rows = blocks.rows if blocks.tiled else min(blocks.rows, height - n % blocks.in_plane * blocks.rows)
        needed = rows * blocks.row_bytes if plain else max(size, 1)
        if size < needed or start + needed > end:
            return False
    return True


def is_checked(tiff: Tiff) -> bool:
    """Whether `as_grey` shows if compressed strips or tiles end early, to within a byte a row.

    OpenCV fills up what they lack, and says nothing, where samples have 8 bits; where they have 16 it refuses.
    """
    of_bytes = tiff.number(COMPRESSION, _UNCOMPRESSED) in _OF_BYTES and tiff.number(PHOTOMETRIC, 1) != _YCBCR
    return of_bytes and set(tiff.numbers(BITS)) == {8} and not is_in_planes(tiff)


def as_grey(tiff: Tiff) -> bytes | None:
    """The file with its strips or tiles declared as those of a 16-bit grey picture, one below the other.

    Each row has the bytes that it had, less one where they are odd. None where the picture would be too large, or the
    file does not say how long they are.
    """
    blocks = Blocks.of(tiff)
    height = blocks.rows * blocks.in_plane if blocks.tiled else tiff.number(HEIGHT, 0)
    if not blocks.sizes or not 2 <= blocks.row_bytes <= _LONGEST or height > _LONGEST:
        return None
    starts, sizes = (tiff.places[tag] for tag in ((TILES, TILE_SIZES) if blocks.tiled else (STRIPS, STRIP_SIZES)))
    numbers = {WIDTH: blocks.row_bytes // 2, HEIGHT: height, STRIP_ROWS: blocks.rows, BITS: 16, SAMPLES: 1}
    numbers |= {
        COMPRESSION: tiff.number(COMPRESSION, _UNCOMPRESSED),
        PHOTOMETRIC: 1,
        FILL_ORDER: tiff.number(FILL_ORDER, 1),
    }
    entries = {tag: struct.pack(f"{tiff.order}HHII", tag, 4, 1, value) for tag, value in numbers.items()}
    for tag, (form, count, place) in ((STRIPS, starts), (STRIP_SIZES, sizes)):
        kind = {"B": 1, "H": 3, "I": 4}[form]
        value = tiff.data[place : place + 4] if count * struct.calcsize(form) <= 4 else None
        entries[tag] = struct.pack(f"{tiff.order}HHI", tag, kind, count) + (
            value or struct.pack(f"{tiff.order}I", place)
        )
    end = len(tiff.data)
    directory = struct.pack(f"{tiff.order}H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries))
    return tiff.data[:4] + struct.pack(f"{tiff.order}I", end) + tiff.data[8:] + directory + bytes(4)


def without_alpha(tiff: Tiff) -> bytes:
    """The file, its alpha declared as a channel that means nothing: by alpha OpenCV multiplies colours of 8 bits."""
    meanings = tiff.numbers(EXTRA_SAMPLES)
    if _UNASSOCIATED not in meanings:
        return tiff.data
    form, count, place = tiff.places[EXTRA_SAMPLES]
    changed = bytearray(tiff.data)
    struct.pack_into(
        f"{tiff.order}{count}{form}", changed, place, *(0 if one == _UNASSOCIATED else one for one in meanings)
    )
    return bytes(changed)
