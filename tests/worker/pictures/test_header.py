"""The sizes that files claim, against Pillow, which wrote them."""

from __future__ import annotations

import io
import re
import struct
import zlib
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.pictures.decode import decode
from quarterturn.worker.pictures.jpeg_header import JpegHeader

VARIANTS: dict[str, tuple[str, str, dict[str, object]]] = {
    "JPEG": ("JPEG", "RGB", {}),
    "progressive JPEG": ("JPEG", "RGB", {"progressive": True}),
    "CMYK JPEG": ("JPEG", "CMYK", {}),
    "JPEG with EXIF and comment": ("JPEG", "L", {"exif": b"Exif\0\0" + bytes(5000), "comment": b"\xff\xc0\xff\xda"}),
    "PNG": ("PNG", "RGBA", {}),
    "BMP": ("BMP", "RGB", {}),
    "TIFF": ("TIFF", "RGB", {}),
    "big-endian TIFF": ("TIFF", "I;16B", {}),
    "packed TIFF": ("TIFF", "L", {"compression": "packbits"}),
    "WebP": ("WEBP", "RGB", {}),
    "lossless WebP": ("WEBP", "RGB", {"lossless": True}),
    "WebP with alpha": ("WEBP", "RGBA", {}),
    "animated WebP": ("WEBP", "RGB", {"save_all": True, "append_images": []}),
}


def saved(variant: str, width: int, height: int) -> bytes:
    kind, mode, options = VARIANTS[variant]
    pictures = [Image.new(mode, (width, height), 200 * n) for n in (0, 1)] if "animated" in variant else []
    options = {**options, "append_images": pictures[1:]} if pictures else options
    out = io.BytesIO()
    (pictures[0] if pictures else Image.new(mode, (width, height))).save(out, kind, **options)
    return out.getvalue()


def claimed(data: bytes) -> tuple[int, int] | str:
    """The size that a file claims, as its refusal tells it once the limit is one pixel; else the refusal's reason."""
    limit = mock.patch("quarterturn.worker.pictures.file.MAX_PIXELS", 0)
    with limit, pytest.raises(FrameError) as caught:
        decode(data)
    found = re.search(r"claims (\d+)x(\d+) pixels", str(caught.value))
    return (int(found[1]), int(found[2])) if found else caught.value.reason


@given(st.sampled_from(sorted(VARIANTS)), st.integers(1, 700), st.integers(1, 700))
def test_sizes(variant: str, width: int, height: int) -> None:
    assert claimed(saved(variant, width, height)) == (width, height)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_header_cut_off_anywhere_has_the_same_size_or_none(variant: str) -> None:
    whole = saved(variant, 17, 9)
    sizes = [claimed(whole[:length]) for length in range(1, min(len(whole), 9000))]
    assert set(sizes) <= {"truncated", "undecodable", (17, 9)}
    assert sizes[0] == "undecodable"


@pytest.mark.parametrize("data", [b"\xff", b"\xff\xd8", b"BM", b"GIF89a", b"RIFF\0\0\0\0WEBPVP9 ", b"RIFF"])
def test_what_is_no_picture_has_no_size(data: bytes) -> None:
    assert claimed(data) in ("truncated", "undecodable")


def test_a_jpeg_may_have_stray_and_fill_bytes_between_its_segments() -> None:
    """libjpeg skips them, and so would a bomb be hidden behind them."""
    whole = saved("JPEG", 30, 20)
    for stray in (b"junk", b"\xff" * 100, b"\xff\x00" * 50, b"\xff\xd0", b"\xff\x01"):
        assert claimed(whole[:2] + stray + whole[2:]) == (30, 20)


def test_a_jpeg_of_endless_segments_has_no_size() -> None:
    for endless in (b"\xff\xd0" * 1_000_000, b"\xff\xe0\0\2" * 500_000):
        assert claimed(b"\xff\xd8" + endless) == "truncated"


def test_a_png_of_endless_parts_is_refused() -> None:
    part = bytes(4) + b"tEXt" + struct.pack(">I", zlib.crc32(b"tEXt"))
    with pytest.raises(FrameError, match="do not reach the end"):
        decode(saved("PNG", 9, 9)[:33] + part * 1_000_000)


def test_an_old_bmp_and_one_from_the_top() -> None:
    assert claimed(b"BM" + bytes(12) + struct.pack("<IHH", 12, 30, 20)) == (30, 20)
    assert claimed(b"BM" + bytes(12) + struct.pack("<Iii", 40, 30, -20)) == (30, 20)


def test_a_tiff_is_as_large_as_its_tiles() -> None:
    tags = struct.pack("<" + "HHII" * 4, 256, 4, 1, 10, 257, 3, 1, 20, 322, 4, 1, 16384, 323, 4, 1, 8192)
    assert claimed(b"II*\0" + struct.pack("<IH", 8, 4) + tags) == (16384, 8192)


def test_a_size_that_is_no_whole_number_is_none() -> None:
    """libtiff takes signed and larger ones, too, and a bomb could hide behind them."""
    for kind in (2, 5, 8, 9, 11, 16):
        tags = struct.pack("<HHIIHHII", 256, kind, 1, 70_000, 257, 3, 1, 20)
        assert claimed(b"II*\0" + struct.pack("<IH", 8, 2) + tags) == "truncated"


def test_a_tiff_of_nothing_in_tiles_is_refused() -> None:
    tags = struct.pack("<" + "HHII" * 4, 256, 4, 1, 0, 257, 3, 1, 20, 322, 4, 1, 16, 323, 4, 1, 16)
    assert claimed(b"II*\0" + struct.pack("<IH", 8, 4) + tags) == "undecodable"


@pytest.mark.parametrize("size", [(0, 0), (0, 9), (9, 0)])
def test_a_size_of_nothing_is_refused(size: tuple[int, int]) -> None:
    jpeg = bytearray(saved("JPEG", 9, 9))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = struct.pack(">HH", *size)
    with pytest.raises(FrameError, match="no size") as caught:
        decode(bytes(jpeg))
    assert caught.value.reason == "undecodable"


def scans(data: bytes) -> int:
    header = JpegHeader.read(data)
    assert header is not None
    return header.scans


def test_scans() -> None:
    assert scans(saved("JPEG", 9, 9)) == 1
    assert scans(saved("progressive JPEG", 9, 9)) == 10
    assert scans(saved("JPEG with EXIF and comment", 9, 9)) == 1  # not those in a comment,
    assert scans(saved("JPEG", 9, 9) + b"\xff\xda" * 100) == 1  # nor behind the end
