"""What a JPEG file says of itself in its markers (ITU-T T.81, Annex B), read before anything is decoded."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from quarterturn.worker.pictures.tiff import Tiff

_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")  # those of segments, and the end: not RST, SOI, TEM, nor data
_END, _SCAN, _APP0, _APP1, _APP14 = 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
DQT = 0xDB
"""The marker of quantisation tables."""

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_SEGMENTS = 1000  # that are looked at: far more than any camera writes
_COEFFICIENTS = 64  # of a block
_STANDARD = 3688  # the sum of the table for brightness in T.81, K.1, which is libjpeg's quality 50


@dataclass(frozen=True, slots=True)
class Segment:
    """A marker, and where the bytes of its segment begin and end."""

    marker: int
    start: int
    end: int


def segments(data: bytes) -> Iterator[Segment]:
    """The segments of the file in `data` up to its end, found as libjpeg finds them, between stray bytes too."""
    place = 2
    for _ in range(_SEGMENTS):
        found = _MARKER.search(data, place)
        if found is None or data[found.end() - 1] == _END:
            return
        start = found.end()
        place = start + int.from_bytes(data[start : start + 2], "big")
        yield Segment(data[start - 1], start + 2, place)


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What all segments say together.

    Attributes:
        size: width and height in pixels.
        sampling: of each component, how many samples it has across and down where others have 1 to 4: one component in
            a grey picture, 3 in colours, 4 in a picture to be printed.
        scans: how often a decoder goes over the picture, some 10 times where it is progressive.
        is_whole: whether the scans hold all of every component. A progressive file can end between two of them, and is
            a picture then, but a coarse one.
        orientation: 1 to 8 as EXIF counts them; 1 is upright.
        quality: 1 to 100, about as libjpeg counts, by the sum of the first component's quantisation table; None if it
            has none.
    """

    size: tuple[int, int]
    sampling: tuple[tuple[int, int], ...]
    scans: int
    is_whole: bool
    orientation: int
    quality: int | None

    @classmethod
    def read(cls, data: bytes) -> JpegHeader | None:
        """The header; None where the file ends before its first scan."""
        frame, orientation, scans = None, 1, 0
        sampling: tuple[tuple[int, int], ...] = ()
        tables: dict[int, int] = {}  # the sum of each quantisation table
        missing: dict[int, list[int]] = {}  # by component and coefficient the bits that are still to come, 1 at least
        try:
            for one in segments(data):
                if one.marker in _START_OF_FRAME and frame is None:
                    frame = one
                    components = data[one.start + 6 : one.start + 6 + 3 * data[one.start + 5]]
                    missing = {component: [1] * _COEFFICIENTS for component in components[::3]}
                    sampling = tuple((both >> 4, both & 15) for both in components[1::3])
                elif one.marker == DQT:
                    tables |= _table_sums(data[one.start : one.end])
                elif one.marker == _APP1 and orientation == 1:
                    orientation = _orientation(data[one.start : one.end])
                elif one.marker == _SCAN and frame is not None:
                    scans += 1
                    _look_at_scan(data[one.start : one.end], missing, frame.marker in _PROGRESSIVE)
            if frame is None or scans == 0:
                return None
            height, width = struct.unpack_from(">HH", data, frame.start + 1)
            quality = _quality(tables.get(data[frame.start + 8]))
        except (struct.error, IndexError):
            return None
        is_whole = not any(any(bits) for bits in missing.values())
        return cls((width, height), sampling, scans, is_whole, orientation, quality)


def mended(data: bytes) -> bytes:
    """The file with what some encoders write wrong in its headers as libjpeg understands it anyway.

    These are JFIF's revision, Adobe's code for YCbCr, and which coefficients the scan of a sequential file brings.
    """
    changed, progressive = bytearray(data), False
    for one in segments(data):
        progressive |= one.marker in _PROGRESSIVE
        if one.marker == _APP0 and data.startswith(b"JFIF\0", one.start):
            changed[one.start + 5] = 1
        elif one.marker == _APP14 and data.startswith(b"Adobe", one.start) and data[one.start + 11] > 2:
            changed[one.start + 11] = 1
        elif one.marker == _SCAN and not progressive:
            changed[one.end - 3 : one.end] = b"\0\x3f\0"
    return bytes(changed)


def _table_sums(segment: bytes) -> dict[int, int]:
    """The sums of the tables in a segment, by their numbers."""
    sums, place = {}, 0
    while place < len(segment):
        width = 2 if segment[place] >> 4 else 1
        table = segment[place + 1 : place + 1 + _COEFFICIENTS * width]
        sums[segment[place] & 15] = sum(table) if width == 1 else 256 * sum(table[::2]) + sum(table[1::2])
        place += 1 + _COEFFICIENTS * width
    return sums


def _quality(table_sum: int | None) -> int | None:
    """The inverse of libjpeg's `jpeg_quality_scaling`, as far as rounding lets it be told."""
    if not table_sum:
        return None
    percent = 100 * table_sum / _STANDARD
    return max(1, round((200 - percent) / 2 if percent <= 100 else 5000 / percent))


def _look_at_scan(header: bytes, missing: dict[int, list[int]], progressive: bool) -> None:
    """Note in `missing` which coefficients of which components a scan brings, and how many bits it leaves out."""
    count = header[0]
    first, last, low = 0, _COEFFICIENTS - 1, 0
    if progressive:
        first, last, low = header[1 + 2 * count], header[2 + 2 * count], header[3 + 2 * count] & 15
    for component in header[1 : 1 + 2 * count : 2]:
        bits = missing.get(component, [])
        bits[first : last + 1] = [low] * len(bits[first : last + 1])


def _orientation(segment: bytes) -> int:
    if not segment.startswith(b"Exif\0\0"):
        return 1
    try:
        tiff = Tiff.read(segment[6:])
        return tiff.orientation if tiff else 1
    except struct.error:
        return 1
