"""What a picture file says of itself in its first bytes, read before anything is decoded or allocated.

A few hundred bytes can claim billions of pixels. OpenCV tells a picture's size only by decoding it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

Size = tuple[int, int]  # width, height

_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})  # TEM, RST0 to RST7, SOI
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_END_OF_HEADERS = frozenset({0xD9, 0xDA})  # EOI, SOS
_JPEG_SEGMENTS = 1000  # that may come before the size: far more than any camera writes
_TIFF_SIZES = {256: 0, 257: 1, 322: 2, 323: 3}  # tags: width, height, and those of a tile
_TIFF_TYPES = {3: "H", 4: "I"}  # SHORT, LONG


def picture_size(data: bytes) -> Size | None:
    """Width and height in pixels that the JPEG, PNG, BMP, TIFF or WebP file in `data` claims; None where it is none.

    For a TIFF file in tiles larger than the picture it is the size of a tile, which is decoded as a whole.
    """
    for signature, read in _READERS.items():
        if data.startswith(signature):
            try:
                return read(data)
            except (struct.error, IndexError):  # cut off within its headers
                return None
    return None


def jpeg_scans(data: bytes) -> int:
    """How often a decoder goes over the JPEG picture in `data`, 0 for another file; some 10 where it is progressive."""
    start = _start_of_frame(data) if data.startswith(b"\xff\xd8") else None
    return 0 if start is None else data.count(b"\xff\xda", start, data.find(b"\xff\xd9", start))


def _jpeg(data: bytes) -> Size | None:
    start = _start_of_frame(data)
    if start is None:
        return None
    height, width = struct.unpack_from(">HH", data, start + 5)
    return width, height


def _start_of_frame(data: bytes) -> int | None:
    """Where the marker stands whose segment holds a JPEG's size; finds it as libjpeg does, between stray bytes too."""
    place = 2
    for _ in range(_JPEG_SEGMENTS):
        found = _MARKER.search(data, place)
        if found is None or (marker := data[found.start() + 1]) in _END_OF_HEADERS:
            return None
        if marker in _START_OF_FRAME:
            return found.start()
        place = found.end()
        if marker not in _WITHOUT_LENGTH:
            place += int.from_bytes(data[place : place + 2], "big")
    return None


def _png(data: bytes) -> Size | None:
    """OpenCV takes as much memory as a chunk claims to be long, and looks for pixels (IDAT) behind the end too."""
    kind, width, height = struct.unpack_from(">4sII", data, 12)
    return (width, height) if kind == b"IHDR" and _has_whole_chunks(data) else None


def _has_whole_chunks(data: bytes) -> bool:
    place, kinds = 8, [b""]
    while kinds[-1] != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, place)
        kinds.append(kind)
        place += 12 + length  # with the checksum
    return place <= len(data) and b"IDAT" in kinds


def _bmp(data: bytes) -> Size:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(width), abs(height)  # a height below 0: the rows come from the top


def _tiff(data: bytes) -> Size | None:
    order = "<" if data.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, directory)
    sizes = [0, 0, 0, 0]
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        if tag in _TIFF_SIZES and kind in _TIFF_TYPES:
            (value,) = struct.unpack_from(f"{order}{_TIFF_TYPES[kind]}", data, entry + 8)
            sizes[_TIFF_SIZES[tag]] = max(sizes[_TIFF_SIZES[tag]], value)
    width, height, tile_width, tile_height = sizes
    return (width, height) if width * height >= tile_width * tile_height else (tile_width, tile_height)


def _webp(data: bytes) -> Size | None:
    kind = data[8:16]
    if kind == b"WEBPVP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"WEBPVP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"WEBPVP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
        return (high_width << 16 | low_width) + 1, (high_height << 16 | low_height) + 1
    return None


_READERS: dict[bytes, Callable[[bytes], Size | None]] = {
    b"\xff\xd8": _jpeg,
    b"\x89PNG\r\n\x1a\n": _png,
    b"BM": _bmp,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"RIFF": _webp,
}
