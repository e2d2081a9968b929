"""PNG, BMP, WebP and TIFF files: half of one is no picture, and pixels mean what they say."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from quarterturn.worker.contract.arrays import Picture
from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.picture import Decoded
from quarterturn.worker.pictures.decode import decode
from tests.tiff import BLACK_IS_0, PALETTE, RGB, WHITE_IS_0, YCBCR, strips, tiff, tiles
from tests.worker.pictures.files import reason

HEIGHT, WIDTH = 33, 38
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = COLOURS[..., 0]
ALPHA = RNG.integers(0, 256, (HEIGHT, WIDTH, 1), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
DEEP_GREY = DEEP[..., 0]
DEEP_ALPHA = RNG.integers(0, 65536, (HEIGHT, WIDTH, 1), dtype=np.uint16)
DEFLATE, PACKBITS = 8, 32773

made = partial(tiff, width=WIDTH, height=HEIGHT)


def saved(kind: str, picture: npt.NDArray[np.uint8], **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, kind, **options)
    return out.getvalue()


def assert_shows(decoded: Decoded, expected: npt.NDArray[np.uint8], *, bits: int = 8) -> None:
    """`expected` is (H, W) where the file is grey."""
    shown = np.repeat(expected[..., None], 3, -1) if expected.ndim == 2 else expected
    np.testing.assert_array_equal(decoded.picture, shown)
    assert (decoded.bits, decoded.is_grey) == (bits, expected.ndim == 2)
    assert decoded.picture.dtype == np.uint8


def png(picture: npt.NDArray[np.generic], kind: int, depth: int, *more: bytes, idat: int = 1 << 20) -> bytes:
    """A PNG of colour type `kind` by the letter of its specification, its pixels in parts of `idat` bytes."""
    rows = picture.astype(picture.dtype.newbyteorder(">")).reshape(len(picture), -1)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", picture.shape[1], picture.shape[0], depth, kind, 0, 0, 0)
    pixels = [chunk(b"IDAT", packed[n : n + idat]) for n in range(0, len(packed), idat)]
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *more, *pixels, chunk(b"IEND", b"")])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packbits(block: bytes) -> bytes:
    return b"".join(bytes([len(block[n : n + 128]) - 1]) + block[n : n + 128] for n in range(0, len(block), 128))


# --- half a picture ---------------------------------------------------------------------------------------------------

RGB8 = {"bits": (8, 8, 8), "photometric": RGB}
WHOLE: dict[str, bytes] = {
    "PNG": saved("PNG", COLOURS),
    "grey PNG": saved("PNG", GREY),
    "PNG in parts": png(COLOURS, 2, 8, idat=500),
    "16-bit PNG": png(DEEP_GREY, 0, 16),
    "BMP": saved("BMP", COLOURS),
    "grey BMP": saved("BMP", GREY),
    "BMP from the top": saved("BMP", COLOURS)[:22] + struct.pack("<i", -HEIGHT) + saved("BMP", COLOURS)[26:],
    "WebP": saved("WEBP", COLOURS),
    "lossless WebP": saved("WEBP", COLOURS, lossless=True),
    "WebP with alpha": saved("WEBP", np.dstack([COLOURS, ALPHA])),
    "TIFF": made(strips(COLOURS, HEIGHT), **RGB8),
    "TIFF of Pillow": saved("TIFF", COLOURS),
    "TIFF in strips": made(strips(COLOURS, 7), rows=7, **RGB8),
    "TIFF in strips, directory last": made(strips(COLOURS, 7), rows=7, last=True, **RGB8),
    "big-endian TIFF": made(strips(DEEP_GREY, 7, ">"), rows=7, bits=(16,), order=">"),
    "16-bit TIFF in tiles": made(tiles(DEEP_GREY, 16), bits=(16,), tile=(16, 16)),
    "TIFF in planes": made([b for c in range(3) for b in strips(COLOURS[..., c], 7)], rows=7, **RGB8, tags={284: [2]}),
    "Deflate TIFF": made([zlib.compress(b) for b in strips(COLOURS, 7)], rows=7, compression=DEFLATE, **RGB8),
    "Deflate TIFF in tiles": made([zlib.compress(b) for b in tiles(GREY, 16)], compression=DEFLATE, tile=(16, 16)),
    "PackBits TIFF": made([packbits(b) for b in strips(COLOURS, 7)], rows=7, compression=PACKBITS, **RGB8),
    "LZW TIFF": saved("TIFF", COLOURS, compression="tiff_lzw"),
    "JPEG TIFF": saved("TIFF", COLOURS, compression="jpeg"),
}
CHECKSUMMED = ("PNG", "grey PNG", "PNG in parts", "16-bit PNG")
REFUSED = ("truncated", "undecodable")


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_one_is_read(name: str) -> None:
    decoded = decode(WHOLE[name])
    assert decoded.picture.shape == (HEIGHT, WIDTH, 3)
    assert decoded.picture.std() > 40


@pytest.mark.parametrize("name", WHOLE)
def test_one_without_its_end_is_refused(name: str) -> None:
    """Of a TIFF the last four bytes may say only that there is no further picture."""
    data = WHOLE[name]
    for length in [*range(8, len(data) - 4, 37), len(data) - 5]:
        assert reason(data[:length]) in (REFUSED if name == "JPEG TIFF" else ("truncated",)), length


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("lost", [16, 400])
def test_one_that_lost_its_middle_is_refused(name: str, lost: int) -> None:
    """Where the places of a TIFF's strips are lost themselves, others may stand where they are looked for."""
    data = WHOLE[name]
    for place in range(350 if "TIFF" in name else 60, len(data) - lost - 20, 53):
        assert reason(data[:place] + data[place + lost :]) in REFUSED, place


@pytest.mark.parametrize("name", CHECKSUMMED)
def test_a_png_in_which_a_byte_is_wrong_is_refused(name: str) -> None:
    data = bytearray(WHOLE[name])
    for place in range(8, len(data), 11):
        data[place] ^= 0x10
        assert reason(bytes(data)) in (*REFUSED, "too_many_pixels"), place
        data[place] ^= 0x10
    middle = len(data) // 2
    assert reason(bytes(data[:middle]) + bytes(40) + bytes(data[middle + 40 :])) == "truncated"


def test_a_png_without_one_of_its_parts_is_refused() -> None:
    """Each part that is left has its checksum."""
    data = WHOLE["PNG in parts"]
    place = data.index(b"IDAT", data.index(b"IDAT") + 4) - 4
    length = 12 + int.from_bytes(data[place : place + 4], "big")
    assert reason(data[:place] + data[place + length :]) == "truncated"


def compressed(blocks: list[bytes], pack: Callable[[bytes], bytes], short: int, by: int, **options: object) -> bytes:
    """A TIFF of which one strip or tile ends `by` bytes early, though all is there that the directory names."""
    packed = [pack(block) for block in blocks]
    packed[short] = packed[short][:-by]
    return made(packed, **options)


@pytest.mark.parametrize("short", [0, 2, -1])
@pytest.mark.parametrize("by", [60, 200])
def test_a_tiff_with_a_strip_that_ends_early_is_refused(short: int, by: int) -> None:
    for pack, compression in ((zlib.compress, DEFLATE), (packbits, PACKBITS)):
        for blocks, options in (
            (strips(COLOURS, 7), {"rows": 7, **RGB8}),
            (strips(GREY, 11), {"rows": 11}),
            (strips(DEEP_GREY, 11), {"rows": 11, "bits": (16,)}),
            (tiles(GREY, 16), {"tile": (16, 16)}),
        ):
            data = compressed(blocks, pack, short, by, compression=compression, **options)
            assert reason(data) in REFUSED, options
            assert (
                reason(compressed(blocks, pack, short, -len(blocks[0]) * 9, compression=compression, **options)) is None
            )


@pytest.mark.parametrize(
    "tags",
    [{273: [100]}, {279: [9, 9, 9, 9, 9]}, {279: [2**31] * 5}, {273: [2**32 - 5] * 5}, {278: [2]}, {257: [2000]}],
    ids=["a strip alone", "short strips", "huge strips", "strips behind the end", "more strips", "more rows"],
)
def test_a_tiff_that_claims_more_than_it_has_is_refused(tags: dict[int, list[int]]) -> None:
    assert reason(made(strips(COLOURS, 7), rows=7, tags=tags, **RGB8)) in REFUSED


def test_a_tiff_may_leave_out_how_long_its_only_strip_is() -> None:
    for blocks, options in ((strips(COLOURS, 33), RGB8), (strips(DEEP_GREY, 33), {"bits": (16,)})):
        data = made(blocks, **options)
        entry = data.index(struct.pack("<HHI", 279, 4, len(blocks)))
        without = data[:entry] + struct.pack("<H", 300) + data[entry + 2 :]  # a tag that means nothing
        np.testing.assert_array_equal(decode(without).picture, decode(data).picture)
        assert reason(without[:-1]) == "truncated"


def test_a_tiff_that_names_a_size_twice_is_refused() -> None:
    """Of two readers each might take another one, and one of them is the check of the size."""
    data = made(strips(GREY, HEIGHT))
    entry = data.index(struct.pack("<HHI", 258, 3, 1))
    twice = data[:entry] + struct.pack("<HHII", 256, 4, 1, 70_000) + data[entry + 12 :]
    with pytest.raises(FrameError, match="no size"):
        decode(twice)


@pytest.mark.parametrize("name", [name for name in WHOLE if "TIFF" not in name])
def test_bytes_behind_the_end_are_no_fault(name: str) -> None:
    np.testing.assert_array_equal(decode(WHOLE[name] + bytes(40)).picture, decode(WHOLE[name]).picture)
    np.testing.assert_array_equal(decode(WHOLE[name] + WHOLE[name]).picture, decode(WHOLE[name]).picture)


def test_a_refusal_is_no_line_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """Where a check of ours sees the fault before OpenCV does."""
    for name, data in WHOLE.items():
        if name not in ("JPEG TIFF", "LZW TIFF"):
            reason(data[: len(data) // 2])
    decode(png(COLOURS, 2, 8, chunk(b"iCCP", b"broken\0\0" + bytes(9)), chunk(b"tEXt", b"no key")))
    assert capfd.readouterr() == ("", "")


# --- pixels mean what they say ----------------------------------------------------------------------------------------

ALPHAS = {"random": ALPHA, "none of it": np.zeros_like(ALPHA), "all of it": np.full_like(ALPHA, 255)}


@pytest.mark.parametrize("alpha", ALPHAS.values(), ids=ALPHAS.keys())
@pytest.mark.parametrize("meaning", [0, 1, 2], ids=["unspecified", "associated", "unassociated"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_alpha_is_dropped_and_colours_are_as_written(alpha: Picture, meaning: int, order: str) -> None:
    deep_alpha = alpha.astype(np.uint16) * 257
    write = partial(made, extra=(meaning,), order=order)
    for rows in (HEIGHT, 7):
        rgba = strips(np.dstack([COLOURS, alpha]), rows)
        assert_shows(decode(write(rgba, bits=(8,) * 4, photometric=RGB, rows=rows)), COLOURS)
        assert_shows(
            decode(write([zlib.compress(b) for b in rgba], bits=(8,) * 4, photometric=RGB, rows=rows, compression=8)),
            COLOURS,
        )
        assert_shows(decode(write(strips(np.dstack([GREY, alpha]), rows), bits=(8, 8), rows=rows)), GREY)
        deep = strips(np.dstack([DEEP, deep_alpha]), rows, order)
        assert_shows(
            decode(write(deep, bits=(16,) * 4, photometric=RGB, rows=rows)), (DEEP >> 8).astype(np.uint8), bits=16
        )
        deep = strips(np.dstack([DEEP_GREY, deep_alpha]), rows, order)
        assert_shows(decode(write(deep, bits=(16, 16), rows=rows)), (DEEP_GREY >> 8).astype(np.uint8), bits=16)


def test_alpha_of_png_bmp_and_webp() -> None:
    for alpha in ALPHAS.values():
        rgba = np.dstack([COLOURS, alpha])
        assert_shows(decode(png(rgba, 6, 8)), COLOURS)
        assert_shows(decode(png(np.dstack([GREY, alpha]), 4, 8)), GREY)
        assert_shows(decode(saved("BMP", rgba)), COLOURS)
        assert_shows(decode(saved("WEBP", rgba, lossless=True, exact=True)), COLOURS)
    assert_shows(decode(png(np.dstack([DEEP, DEEP_ALPHA]), 6, 16)), (DEEP >> 8).astype(np.uint8), bits=16)
    assert_shows(decode(png(np.dstack([DEEP_GREY, DEEP_ALPHA]), 4, 16)), (DEEP_GREY >> 8).astype(np.uint8), bits=16)


def test_transparency_of_palettes_and_of_one_colour() -> None:
    palette = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
    colours = chunk(b"PLTE", palette.tobytes())
    clear = chunk(b"tRNS", bytes(range(256)))
    assert_shows(decode(png(GREY, 3, 8, colours)), palette[GREY])
    assert_shows(decode(png(GREY, 3, 8, colours, clear)), palette[GREY])
    assert_shows(decode(png(GREY, 0, 8, chunk(b"tRNS", b"\0\x07"))), GREY)
    assert_shows(decode(png(COLOURS, 2, 8, chunk(b"tRNS", struct.pack(">3H", *COLOURS[0, 0].tolist())))), COLOURS)
    of_tiff = RNG.integers(0, 65536, (3, 256))
    shown = (of_tiff.T[GREY] >> 8).astype(np.uint8)
    assert_shows(
        decode(made(strips(GREY, 7), rows=7, photometric=PALETTE, tags={320: of_tiff.ravel().tolist()})), shown
    )


def test_deep_grey_with_alpha_as_differences() -> None:
    """A predictor goes over grey and alpha apart; LZW and Deflate files of photographs have one."""
    pairs = np.dstack([DEEP_GREY, DEEP_ALPHA])
    differences = np.diff(pairs, axis=1, prepend=np.zeros((HEIGHT, 1, 2), np.uint16)).astype(np.uint16)
    blocks = [zlib.compress(block) for block in strips(differences, 7)]
    data = made(blocks, rows=7, bits=(16, 16), extra=(2,), compression=DEFLATE, tags={317: [2], 274: [6]})
    assert_shows(decode(data), np.rot90((DEEP_GREY >> 8).astype(np.uint8), -1), bits=16)


@pytest.mark.parametrize("photometric", [WHITE_IS_0, BLACK_IS_0])
@pytest.mark.parametrize("bits", [1, 8, 10, 12, 14, 16])
def test_negatives_and_samples_of_any_depth(bits: int, photometric: int) -> None:
    samples = RNG.integers(0, 1 << bits, (HEIGHT, WIDTH))
    packed = []
    for row in samples if bits not in (8, 16) else []:  # from the highest bit of each byte on, each row anew
        ones = "".join(format(int(sample), f"0{bits}b") for sample in row)
        packed.append(bytes(int(ones[n : n + 8].ljust(8, "0"), 2) for n in range(0, len(ones), 8)))
    whole = samples.astype("<u2" if bits == 16 else np.uint8)
    data = made([b"".join(packed) or whole.tobytes()], bits=(bits,), photometric=photometric)
    light = samples * 255 if bits == 1 else samples >> (bits - 8)
    expected = (255 - light if photometric == WHITE_IS_0 else light).astype(np.uint8)
    assert_shows(decode(data), expected, bits=max(bits, 8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_as_it_says(orientation: int) -> None:
    """As Pillow turns a picture with the same number in its EXIF."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(saved("PNG", GREY, exif=exif)))))
    deep = {"bits": (16,), "tags": {274: [orientation]}}
    assert_shows(decode(made(strips(GREY, 7), rows=7, tags={274: [orientation]})), turned)
    assert_shows(decode(made(strips(GREY.astype("<u2") * 257, 7), rows=7, **deep)), turned, bits=16)
    pairs = np.dstack([GREY.astype("<u2") * 257, DEEP_ALPHA])
    assert_shows(decode(made(strips(pairs, 7), rows=7, **{**deep, "bits": (16, 16)}, extra=(2,))), turned, bits=16)


@pytest.mark.parametrize(
    ("blocks", "options", "says"),
    [
        (strips(DEEP_GREY, 33), {"bits": (16,), "tags": {339: [2]}}, "signed or floating-point"),
        (strips(DEEP.view(np.float16), 33), {"bits": (16,) * 3, "photometric": RGB, "tags": {339: [3]}}, "signed or"),
        (strips(DEEP, 33), {"bits": (16,) * 3, "photometric": 8}, "16 bits, and not as grey or RGB"),
        (strips(DEEP, 33), {"bits": (16,) * 3, "photometric": YCBCR}, "16 bits, and not as grey or RGB"),
        (
            [DEEP[..., c].tobytes() for c in range(3)],
            {"bits": (16,) * 3, "photometric": RGB, "tags": {284: [2]}},
            "16 bi",
        ),
        (strips(DEEP, 33), {"bits": (8, 16, 8), "photometric": RGB}, "cannot read|differ in depth"),
        (strips(DEEP_GREY, 33), {"bits": (9,)}, "cannot read|one that is not read"),
        (strips(np.dstack([COLOURS, ALPHA, ALPHA]), 33), {"bits": (8,) * 5, "photometric": RGB}, "cannot read"),
        (strips(RNG.random((HEIGHT, WIDTH)).astype("<f4"), 33), {"bits": (32,)}, "cannot read"),
    ],
    ids=["signed", "half floats", "Lab", "YCbCr", "planes", "uneven", "9 bits", "five channels", "32 bits"],
)
def test_what_opencv_would_misread_is_named(blocks: list[bytes], options: dict[str, object], says: str) -> None:
    with pytest.raises(FrameError, match=says) as caught:
        decode(made(blocks, **options))
    assert caught.value.reason == "undecodable"


def test_opencv_is_why() -> None:
    """What it makes of some of these files: should it learn to read them, the detours can go."""
    rgba = made(strips(np.dstack([COLOURS, ALPHA]), HEIGHT), bits=(8,) * 4, photometric=RGB, extra=(2,))
    short = compressed(strips(COLOURS, 7), zlib.compress, 1, 200, rows=7, compression=DEFLATE, **RGB8)
    for data in (rgba, short):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert pixels is not None
        assert not np.array_equal(pixels, COLOURS)
