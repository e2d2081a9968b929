"""The sizes that files claim, against Pillow, which wrote them."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from quarterturn.worker.contract.picture_header import jpeg_scans, picture_size

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


@given(st.sampled_from(sorted(VARIANTS)), st.integers(1, 700), st.integers(1, 700))
def test_sizes(variant: str, width: int, height: int) -> None:
    assert picture_size(saved(variant, width, height)) == (width, height)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_header_cut_off_anywhere_has_the_same_size_or_none(variant: str) -> None:
    whole = saved(variant, 17, 9)
    sizes = [picture_size(whole[:length]) for length in range(min(len(whole), 9000))]
    assert set(sizes) <= {None, (17, 9)}
    assert sizes[0] is None


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"BM", b"GIF89a", b"RIFF\0\0\0\0WEBPVP9 ", b"\x89PNG\r\n\x1a\n" + bytes(30)]
)
def test_what_is_no_picture_has_no_size(data: bytes) -> None:
    assert picture_size(data) is None


def test_a_jpeg_may_have_stray_and_fill_bytes_between_its_segments() -> None:
    """libjpeg skips them, and so would a bomb be hidden behind them."""
    whole = saved("JPEG", 30, 20)
    for stray in (b"junk", b"\xff" * 100, b"\xff\x00" * 50, b"\xff\xd0", b"\xff\x01"):
        assert picture_size(whole[:2] + stray + whole[2:]) == (30, 20)


def test_a_jpeg_of_endless_segments_has_no_size() -> None:
    assert picture_size(b"\xff\xd8" + b"\xff\xd0" * 1_000_000) is None


def test_an_old_bmp_and_one_from_the_top() -> None:
    assert picture_size(b"BM" + bytes(12) + struct.pack("<IHH", 12, 30, 20)) == (30, 20)
    assert picture_size(b"BM" + bytes(12) + struct.pack("<Iii", 40, 30, -20)) == (30, 20)


def test_a_tiff_is_as_large_as_its_tiles() -> None:
    tags = struct.pack("<" + "HHII" * 4, 256, 4, 1, 10, 257, 3, 1, 20, 322, 4, 1, 16384, 323, 4, 1, 8192)
    assert picture_size(b"II*\0" + struct.pack("<IH", 8, 4) + tags) == (16384, 8192)


def test_of_a_size_given_twice_the_larger_counts() -> None:
    tags = struct.pack("<" + "HHII" * 3, 256, 4, 1, 10, 256, 4, 1, 70_000, 257, 4, 1, 20)
    assert picture_size(b"II*\0" + struct.pack("<IH", 8, 3) + tags) == (70_000, 20)


def test_scans() -> None:
    assert jpeg_scans(saved("JPEG", 9, 9)) == 1
    assert jpeg_scans(saved("progressive JPEG", 9, 9)) == 10
    assert jpeg_scans(saved("JPEG with EXIF and comment", 9, 9)) == 1  # not those in a comment,
    assert jpeg_scans(saved("JPEG", 9, 9) + b"\xff\xda" * 100) == 1  # nor behind the end
    assert jpeg_scans(saved("PNG", 9, 9) + b"\xff\xc0" + b"\xff\xda" * 100) == 0
