"""Frames that no camera of good will would send, each with the reason of its dead letter (None: it gets a verdict)."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

Headers = tuple[tuple[str | bytes, bytes], ...]

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3)).astype(np.uint8))
DEEP = Image.fromarray((np.arange(40 * 48) * 30).astype(np.uint16).reshape(40, 48))
STRIP = Image.new("RGB", (20_000, 2))


@dataclass(frozen=True)
class Hostile:
    """A record of the frames topic: a header's name is bytes where it is not UTF-8."""

    data: bytes
    reason: str | None
    headers: Headers = (("camera", b"top-01"),)
    key: bytes | None = b"top-01"
    says: str = field(default="", kw_only=True)
    memory: bool = field(default=False, kw_only=True)  # a decoder that believes it takes gigabytes


def saved(kind: str, picture: Image.Image = PICTURE, **options: object) -> bytes:
    """`picture` as a file, by Pillow."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def turned(kind: str) -> bytes:
    """A picture whose EXIF says that the camera lay on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(kind, exif=exif)


def animated(kind: str) -> bytes:
    """Three pictures in one file."""
    others = [PICTURE.transpose(Image.Transpose.FLIP_TOP_BOTTOM), PICTURE.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    return saved(kind, save_all=True, append_images=others, **({"lossless": True} if kind == "WEBP" else {}))


def png_claiming(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A grey PNG of that size, whatever it holds."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def claiming(data: bytes, place: int, form: str, *numbers: int) -> bytes:
    """`data` with other numbers at `place`."""
    packed = struct.pack(form, *numbers)
    return data[:place] + packed + data[place + len(packed) :]


def jpeg_claiming(width: int, height: int) -> bytes:
    """A JPEG whose header claims that size."""
    data = saved("JPEG")
    return claiming(data, data.index(b"\xff\xc0") + 5, ">HH", height, width)


def tiff_claiming(tag: int, value: int) -> bytes:
    """A TIFF in which one of the sizes is `value`: 256, 257 the picture's, 278 the rows of a strip."""
    data = saved("TIFF")
    return claiming(data, data.index(struct.pack("<HHI", tag, 4, 1)) + 8, "<I", value)


def jpeg_with_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = saved("JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


def raw(width: str, height: str, pixel_format: str = "Mono8") -> Headers:
    """The headers of raw pixels."""
    size = (("width", width.encode()), ("height", height.encode()), ("pixel_format", pixel_format.encode()))
    return (("camera", b"top-01"), *size)


def with_header(name: str | bytes, value: bytes) -> Headers:
    """The camera and one more header."""
    return (("camera", b"top-01"), (name, value))


PNG, JPEG = saved("PNG"), saved("JPEG")

FRAMES: dict[str, Hostile] = {
    "empty": Hostile(b"", "empty", says="no bytes"),
    "not a picture": Hostile(b"hello", "undecodable", says="5 bytes are no JPEG"),
    "zeros": Hostile(bytes(100_000), "undecodable"),
    "cut off JPEG": Hostile(JPEG[: len(JPEG) // 2], "truncated", says="ends early"),
    "cut off PNG": Hostile(PNG[:-30], "truncated", says="ends early"),
    "PNG without its pixels": Hostile(png_claiming(40, 48), "truncated"),
    "PNG with JPEG's first bytes": Hostile(b"\xff\xd8" + PNG[2:], "truncated"),
    "GIF": Hostile(saved("GIF"), "undecodable", says="no JPEG, PNG"),
    "AVIF": Hostile(saved("AVIF"), "undecodable", says="no JPEG, PNG"),
    "JPEG 2000": Hostile(saved("JPEG2000"), "undecodable", says="no JPEG, PNG"),
    "SVG": Hostile(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "undecodable"),
    "gzip": Hostile(gzip.compress(PNG), "undecodable"),
    "PNG bomb": Hostile(
        png_claiming(20_000, 20_000, bytes(20_001 * 2000)), "too_many_pixels", memory=True, says="20000x20000"
    ),
    "PNG with a chunk of 2 GB": Hostile(PNG[:33] + b"\x7f\xff\xff\xffIDAT" + PNG[41:], "truncated", memory=True),
    "PNG with a chunk of 2 GB behind its end": Hostile(
        PNG[:33] + PNG[-12:] + b"\x98\0\0\0IDAT" + PNG[-12:], "truncated", memory=True
    ),
    "PNG of no size": Hostile(png_claiming(0, 0), "undecodable"),
    "PNG of the largest size": Hostile(png_claiming(2**31 - 1, 2**31 - 1), "too_many_pixels", memory=True),
    "JPEG bomb": Hostile(jpeg_claiming(65_500, 65_500), "too_many_pixels", memory=True, says="65500x65500"),
    "JPEG of many scans": Hostile(jpeg_with_scans(500), "undecodable", says="510 scans, more than 64"),
    "WebP bomb": Hostile(claiming(saved("WEBP"), 26, "<HH", 16_383, 16_383), "too_many_pixels", memory=True),
    "lossless WebP bomb": Hostile(
        claiming(saved("WEBP", lossless=True), 21, "<I", 2**28 - 1), "too_many_pixels", memory=True, says="16384x16384"
    ),
    "animated WebP bomb": Hostile(
        claiming(animated("WEBP"), 24, "<IH", 2**32 - 1, 2**16 - 1), "too_many_pixels", memory=True
    ),
    "BMP bomb": Hostile(
        claiming(saved("BMP"), 18, "<ii", 30_000, -30_000), "too_many_pixels", memory=True, says="30000x30000"
    ),
    "TIFF bomb": Hostile(tiff_claiming(256, 10_000_000), "too_many_pixels", memory=True, says="10000000x40"),
    "1x1 PNG": Hostile(saved("PNG", Image.new("L", (1, 1))), None),
    "1x1 JPEG": Hostile(saved("JPEG", Image.new("RGB", (1, 1))), None),
    "20,000 pixels wide": Hostile(saved("PNG", STRIP), None),
    "20,000 pixels high": Hostile(saved("JPEG", STRIP.transpose(Image.Transpose.ROTATE_90)), None),
    "16-bit PNG": Hostile(saved("PNG", DEEP), None),
    "16-bit TIFF": Hostile(saved("TIFF", DEEP), None),
    "32-bit TIFF": Hostile(saved("TIFF", Image.new("F", (9, 9))), "undecodable"),
    "CMYK JPEG": Hostile(saved("JPEG", PICTURE.convert("CMYK")), None),
    "CMYK TIFF": Hostile(saved("TIFF", PICTURE.convert("CMYK")), None),
    "grey JPEG": Hostile(saved("JPEG", PICTURE.convert("L")), None),
    "black and white PNG": Hostile(saved("PNG", PICTURE.convert("1")), None),
    "palette PNG": Hostile(saved("PNG", PICTURE.convert("P")), None),
    "alpha PNG": Hostile(saved("PNG", PICTURE.convert("RGBA")), None),
    "alpha WebP": Hostile(saved("WEBP", PICTURE.convert("RGBA")), None),
    "turned JPEG": Hostile(turned("JPEG"), None),
    "turned PNG": Hostile(turned("PNG"), None),
    "animated PNG": Hostile(animated("PNG"), None),
    "animated WebP": Hostile(animated("WEBP"), None),
    "TIFF of several pages": Hostile(animated("TIFF"), None),
    "raw pixels": Hostile(bytes(100), None, raw("10", "10")),
    "raw pixels too few": Hostile(bytes(99), "size_mismatch", raw("10", "10"), says="takes 100 bytes.* has 99"),
    "raw pixels too many": Hostile(bytes(101), "size_mismatch", raw("10", "10")),
    "raw pixels of no size": Hostile(b"x", "size_mismatch", raw("0", "0")),
    "raw pixels of a size below 0": Hostile(bytes(100), "size_mismatch", raw("-10", "-10")),
    "raw pixels of a huge size": Hostile(b"x", "too_many_pixels", raw("9" * 1000, "9")),
    "raw pixels of half a size": Hostile(bytes(100), "bad_header", raw("10.5", "10"), says="whole numbers"),
    "raw pixels of an unknown format": Hostile(bytes(100), "bad_pixel_format", raw("10", "10", "YUV411")),
    "raw pixels without a format": Hostile(bytes(100), "bad_header", raw("10", "10", ""), says="pixel_format is miss"),
    "raw headers on a PNG": Hostile(PNG, "size_mismatch", raw("48", "40", "RGB8")),
    "no headers": Hostile(PNG, None, ()),
    "no headers and no key": Hostile(PNG, "bad_header", (), None, says="neither a header 'camera' nor a record key"),
    "an empty camera and no key": Hostile(PNG, "bad_header", (("camera", b""),), None, says="set one"),
    "camera not UTF-8": Hostile(PNG, "bad_header", (("camera", b"\xff\xfe"),), says="'camera' is not UTF-8"),
    "camera of two lines": Hostile(PNG, "bad_header", (("camera", b"a\nb"),), says=r"name 'a\\nb' cannot be printed"),
    "huge camera": Hostile(PNG, "bad_header", (("camera", b"x" * 300_000),), says="300000 bytes, more than 1024"),
    "huge key": Hostile(PNG, "bad_header", key=b"k" * 2_000_000, says="key has 2000000 bytes, more than 1024"),
    "key not UTF-8": Hostile(PNG, "bad_header", (), b"\xff", says="the record's key is not UTF-8"),
    "header name not UTF-8": Hostile(
        PNG, "bad_header", with_header(b"caf\xe9", b"1"), says=r"name 'caf\\x1a' is not U"
    ),
    "many header names not UTF-8": Hostile(PNG, "bad_header", ((b"\xff\xfe", b""),) * 20_000, says="is not UTF-8"),
    "unknown header not UTF-8": Hostile(PNG, None, with_header("trace", b"\xff\xfe")),
    "huge unknown header": Hostile(PNG, None, with_header("trace", b"x" * 500_000)),
    "ten thousand headers": Hostile(PNG, None, (("camera", b"top-01"), *((f"h{n}", b"") for n in range(10_000)))),
    "two cameras": Hostile(
        PNG, "bad_header", (("camera", b"other"), ("camera", b"top-01")), says="'camera' is there twice"
    ),
    "the camera twice": Hostile(PNG, None, (("camera", b"top-01"), ("camera", b"top-01"))),
    "two of a header that is not read": Hostile(PNG, None, (("camera", b"top-01"), ("x", b"1"), ("x", b"2"))),
    "a replay as .NET writes it": Hostile(PNG, None, with_header("simulated", b"True")),
    "neither a replay nor none": Hostile(PNG, "bad_header", with_header("simulated", b"maybe"), says="neither true"),
    "time of nanoseconds": Hostile(PNG, None, with_header("captured_at", b"2026-01-02T03:04:05.123456789+0100")),
    "unknown product": Hostile(PNG, "unknown_product", with_header("product", b"washer"), says="washer"),
    "product of two lines": Hostile(PNG, "bad_header", with_header("product", b"a\nb"), says="the product's name"),
    "time far in the past": Hostile(PNG, None, with_header("captured_at", b"0001-01-01T00:00:00Z")),
    "time far in the future": Hostile(PNG, None, with_header("captured_at", b"9999-12-31T23:59:59+00:00")),
    "time that is none": Hostile(
        PNG, "bad_header", with_header("captured_at", b"10000-01-01"), says="no ISO 8601 time"
    ),
    "time of two lines": Hostile(PNG, "bad_header", with_header("captured_at", b"2026\n"), says=r"'2026\\n'"),
}
