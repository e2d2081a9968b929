"""What a picture file says of itself in its first bytes, read before anything is decoded or allocated.

A few hundred bytes can claim billions of pixels, and a file can lack its end; OpenCV tells neither before it decodes.
"""

from __future__ import annotations

import struct
import zlib

from quarterturn.worker.contract.errors import FrameError

Size = tuple[int, int]  # width, height

_MOST_CHUNKS = 100_000  # of a PNG: some 100 times what writers make of 100 million pixels
_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"IDAT", b"eXIf", b"IEND"})
_PLAIN_BMP = (0, 3, 6)  # compressions: none, and colours that lie where masks say


def truncated(what: str) -> FrameError:
    """The error of a picture of which a part is missing."""
    return FrameError("truncated", f"the picture ends early or lacks a part: {what}; check the camera's transfer")


def png_size(data: bytes) -> Size:
    """Width and height that a PNG file claims."""
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def png_is_grey(data: bytes) -> bool:
    """Whether a PNG file has one channel of brightness."""
    return data[25] in (0, 4)


def png_pixels(data: bytes) -> bytes:
    """The PNG file without what is not needed for its pixels: texts, colour profiles, further pictures, transparency.

    So nothing is unpacked that nobody looks at, and libpng has nothing to remark.

    Raises:
        FrameError: `truncated`: it ends before its end, a checksum does not fit, or there are no pixels.
    """
    view, kept, kinds, place = memoryview(data), [data[:8]], {b""}, 8
    for _ in range(_MOST_CHUNKS):
        if place + 12 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[place + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise truncated(f"the checksum of its part {kind.decode('latin-1')!r} does not fit")
        if kind in _PNG_KEPT:
            kept.append(data[place:end])
        kinds.add(kind)
        if kind == b"IEND" and b"IDAT" in kinds:
            return b"".join(kept)
        place = end
    raise truncated(f"{len(data)} bytes do not reach the end of its pixels")


def bmp_size(data: bytes) -> Size:
    """Width and height that a BMP file claims."""
    width, height = struct.unpack_from("<HH" if _is_old(data) else "<ii", data, 18)
    return abs(width), abs(height)  # a height below 0: the rows come from the top


def bmp_is_whole(data: bytes) -> bool:
    """Whether as many bytes are there as the header of a BMP file claims; raises struct.error where it is cut."""
    (start,), (width, height) = struct.unpack_from("<I", data, 10), bmp_size(data)
    (bits,) = struct.unpack_from("<H", data, 24 if _is_old(data) else 28)
    compression, size = (0, 0) if _is_old(data) else struct.unpack_from("<II", data, 30)
    if compression in _PLAIN_BMP:
        size = (width * bits + 31) // 32 * 4 * height
    return bool(start + size <= len(data))


def webp_size(data: bytes) -> Size | None:
    """Width and height that a WebP file claims; None where it is another RIFF file."""
    (kind,) = struct.unpack_from("8s", data, 8)
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


def webp_is_whole(data: bytes) -> bool:
    """Whether as many bytes are there as a WebP file's header claims."""
    (size,) = struct.unpack_from("<I", data, 4)
    return bool(8 + size <= len(data))


def _is_old(bmp: bytes) -> bool:
    (header,) = struct.unpack_from("<I", bmp, 14)
    return bool(header == 12)
