from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quarterturn.worker.contract.decode import decode_picture
from quarterturn.worker.contract.errors import DataError, FrameError
from quarterturn.worker.contract.framing import Framing, cut
from quarterturn.worker.contract.preprocess import Region, crop, read_frames, read_picture
from quarterturn.worker.contract.raw_pixels import PIXEL_FORMATS, RawFormat

Picture = npt.NDArray[np.uint8]

SUFFIXES = [".jpg", ".png", ".bmp", ".tif", ".webp"]
EXACT = [".png", ".bmp", ".tif", ".webp"]  # WebP without loss, see `encoded`


def encoded(suffix: str, picture: npt.NDArray[np.generic]) -> bytes:
    """The RGB, RGBA or grey `picture` as a file, by OpenCV, which takes BGR."""
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(picture.shape[-1] if picture.ndim == 3 else 0)
    options = {".webp": [cv2.IMWRITE_WEBP_QUALITY, 101], ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 98]}.get(suffix, [])
    return cv2.imencode(suffix, picture[..., order] if order else picture, options)[1].tobytes()


def gradient(height: int = 24, width: int = 32) -> Picture:
    """Smooth, different in every channel and direction, so that a swapped axis or channel shows."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 127 // (width + height)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_picture(suffix: str) -> None:
    picture = decode_picture(encoded(suffix, gradient()))
    assert (picture.shape, picture.dtype) == ((24, 32, 3), np.uint8)
    np.testing.assert_allclose(picture.astype(int), gradient().astype(int), atol=8 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_grey_is_spread_to_three_channels(suffix: str) -> None:
    grey = gradient()[..., 0]
    picture = decode_picture(encoded(suffix, grey))
    np.testing.assert_allclose(picture.astype(int), np.repeat(grey[..., None], 3, -1).astype(int), atol=8)
    assert np.ptp(picture, axis=-1).max() == 0


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_is_dropped(suffix: str) -> None:
    alpha = np.full((24, 32, 1), 77, np.uint8)
    np.testing.assert_array_equal(decode_picture(encoded(suffix, np.dstack([gradient(), alpha]))), gradient())


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_cut_to_eight(suffix: str) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (9, 7, 3)).astype(np.uint16)
    np.testing.assert_allclose(decode_picture(encoded(suffix, deep)).astype(int), deep >> 8, atol=1)
    np.testing.assert_allclose(
        decode_picture(encoded(suffix, deep[..., 0]))[..., 1].astype(int), deep[..., 0] >> 8, atol=1
    )


def with_exif(jpeg: bytes, orientation: int, thumbnail: bytes = b"") -> bytes:
    """`jpeg` with an EXIF block that says how the camera was held, and maybe a small preview."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0) + thumbnail
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(1, 0), (8, 1), (3, 2), (6, 3)])
def test_exif_orientation_is_applied(orientation: int, quarter_turns: int) -> None:
    picture = decode_picture(with_exif(encoded(".jpg", gradient()), orientation))
    upright = np.rot90(decode_picture(encoded(".jpg", gradient())), quarter_turns)
    np.testing.assert_array_equal(picture, upright)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_off_anywhere_is_refused(suffix: str) -> None:
    data = encoded(suffix, gradient())
    for length in range(len(data)):
        with pytest.raises(FrameError) as caught:
            decode_picture(data[:length])
        assert caught.value.reason in ("empty", "truncated", "undecodable")


def test_a_jpeg_with_a_preview_that_is_cut_off_is_refused() -> None:
    """The preview is a whole JPEG inside: its end must not pass for the end of the picture."""
    preview = encoded(".jpg", gradient(8, 8))
    data = with_exif(encoded(".jpg", gradient()), 1, preview)
    assert decode_picture(data).shape == (24, 32, 3)
    start_of_scan = data.rindex(b"\xff\xda")
    for length in range(len(data)):
        with pytest.raises(FrameError) as caught:
            decode_picture(data[:length])
        assert length <= start_of_scan + 1 or caught.value.reason == "truncated"


def test_a_cut_off_picture_is_called_so() -> None:
    for suffix in (".jpg", ".png"):
        data = encoded(suffix, gradient())
        with pytest.raises(
            FrameError, match=r"the picture ends early after .* bytes; check the camera's transfer"
        ) as caught:
            decode_picture(data[: len(data) // 2])
        assert caught.value.reason == "truncated"


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_bytes_behind_the_end_are_no_fault(suffix: str) -> None:
    np.testing.assert_array_equal(
        decode_picture(encoded(suffix, gradient()) + b"\0" * 16), decode_picture(encoded(suffix, gradient()))
    )


def decode_or_reason(data: bytes, raw: RawFormat | None = None) -> Picture | str:
    try:
        return decode_picture(data, raw)
    except FrameError as error:
        return error.reason


@settings(max_examples=300)
@given(st.sampled_from(SUFFIXES), st.integers(0, 2**16), st.integers(1, 255))
def test_a_damaged_file_is_a_picture_or_a_frame_error(suffix: str, place: int, change: int) -> None:
    data = bytearray(encoded(suffix, gradient(8, 8)))
    data[place % len(data)] ^= change
    result = decode_or_reason(bytes(data))
    refused = ("truncated", "undecodable", "too_many_pixels")
    assert result in refused if isinstance(result, str) else result.shape[2:] == (3,)


@given(st.binary(min_size=1, max_size=200))
@example(b"\xff\xd8\xff\xd9")
@example(b"BM")
@example(b"GIF89a")
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError) as caught:
        decode_picture(data)
    assert caught.value.reason in ("truncated", "undecodable")


def test_no_bytes_at_all() -> None:
    with pytest.raises(FrameError, match="has no bytes; check the camera's encoder") as caught:
        decode_picture(b"")
    assert caught.value.reason == "empty"


RED, GREEN, BLUE, GREY = (200, 0, 0), (0, 150, 0), (0, 0, 100), (70, 70, 70)
FOUR = np.array([[RED, GREEN], [BLUE, GREY]], np.uint8)


@pytest.mark.parametrize(
    ("pixel_format", "data", "expected"),
    [
        ("RGB8", bytes([200, 0, 0, 0, 150, 0, 0, 0, 100, 70, 70, 70]), FOUR),
        ("BGR8", bytes([0, 0, 200, 0, 150, 0, 100, 0, 0, 70, 70, 70]), FOUR),
        ("RGBa8", bytes([200, 0, 0, 9, 0, 150, 0, 9, 0, 0, 100, 9, 70, 70, 70, 9]), FOUR),
        ("BGRa8", bytes([0, 0, 200, 9, 0, 150, 0, 9, 100, 0, 0, 9, 70, 70, 70, 9]), FOUR),
        ("Mono8", bytes([1, 2, 3, 255]), np.repeat(np.array([[1, 2], [3, 255]], np.uint8)[..., None], 3, -1)),
        (
            "Mono16",  # the low byte comes first
            bytes([99, 1, 99, 2, 99, 3, 255, 255]),
            np.repeat(np.array([[1, 2], [3, 255]], np.uint8)[..., None], 3, -1),
        ),
    ],
)
def test_raw_pixels(pixel_format: str, data: bytes, expected: Picture) -> None:
    picture = decode_picture(data, RawFormat(2, 2, pixel_format))
    np.testing.assert_array_equal(picture, expected)
    assert picture.dtype == np.uint8


def test_raw_pixels_need_not_be_square() -> None:
    np.testing.assert_array_equal(decode_picture(gradient().tobytes(), RawFormat(32, 24, "RGB8")), gradient())


@pytest.mark.parametrize(
    ("pixel_format", "mosaic"), [("BayerRG8", "RGGB"), ("BayerGR8", "GRBG"), ("BayerGB8", "GBRG"), ("BayerBG8", "BGGR")]
)
def test_bayer_patterns_begin_as_their_name_says(pixel_format: str, mosaic: str) -> None:
    colours = gradient(16, 16) // 2 + np.array([120, 60, 0], np.uint8)
    sensor = np.empty((16, 16), np.uint8)
    for index, filter_colour in enumerate(mosaic):
        y, x = divmod(index, 2)
        sensor[y::2, x::2] = colours[y::2, x::2, "RGB".index(filter_colour)]
    picture = decode_picture(sensor.tobytes(), RawFormat(16, 16, pixel_format))
    np.testing.assert_allclose(picture[2:-2, 2:-2].astype(int), colours[2:-2, 2:-2].astype(int), atol=6)


def test_raw_pixels_that_do_not_fit_their_headers() -> None:
    for size, wanted in (((2, 3), 6), ((0, 4), 0), ((-2, -2), 4)):
        with pytest.raises(FrameError, match=f"takes {wanted} bytes, but the frame has 4") as caught:
            decode_picture(bytes(4), RawFormat(*size, "Mono8"))
        assert caught.value.reason == "size_mismatch"
    with pytest.raises(FrameError, match="pixel_format 'YUV422_8' is not one of Mono8, Mono10, .*RGB8") as caught:
        decode_picture(bytes(4), RawFormat(2, 2, "YUV422_8"))
    assert caught.value.reason == "bad_pixel_format"


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_one_raw_pixel_is_no_crash(pixel_format: str) -> None:
    results = [decode_or_reason(bytes(count), RawFormat(1, 1, pixel_format)) for count in (1, 2, 3, 4)]
    assert [result for result in results if isinstance(result, str)] == ["size_mismatch"] * 3
    assert [result.shape for result in results if not isinstance(result, str)] == [(1, 1, 3)]


def test_a_region_is_cut_out() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    cut_out = crop(picture, Region(x=3, y=5, width=10, height=12))
    assert cut_out.shape == (12, 10, 3)
    for y in range(12):
        for x in range(10):
            assert cut_out[y, x].tolist() == picture[5 + y, 3 + x].tolist()
    np.testing.assert_array_equal(crop(picture, Region(x=0, y=0, width=30, height=20)), picture)
    np.testing.assert_array_equal(crop(picture, Region(x=29, y=19, width=1, height=1)), picture[-1:, -1:])
    assert crop(picture, None) is picture


@pytest.mark.parametrize("region", [Region(x=21, y=0, width=10, height=1), Region(x=0, y=20, width=1, height=1)])
def test_a_region_outside_the_picture_is_refused(region: Region) -> None:
    with pytest.raises(FrameError, match="but the picture is 30x20; correct the camera's region") as caught:
        crop(np.zeros((20, 30, 3), np.uint8), region)
    assert caught.value.reason == "region_outside"


def test_a_picture_file(tmp_path: Path) -> None:
    (tmp_path / "part.png").write_bytes(encoded(".png", gradient()))
    np.testing.assert_array_equal(read_picture(tmp_path / "part.png"), gradient())
    region = Region(x=4, y=2, width=20, height=10)
    np.testing.assert_array_equal(read_picture(tmp_path / "part.png", region), gradient()[2:12, 4:24])


READERS: dict[str, Callable[[Path, Region | None], object]] = {
    "picture": read_picture,
    "frames": lambda path, region: read_frames(path, Framing(side=32), region),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, read: Callable[[Path, Region | None], object]) -> None:
    with pytest.raises(DataError, match=r"absent\.png: cannot be read \(No such file"):
        read(tmp_path / "absent.png", None)
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"bad\.png: 13 bytes are no JPEG.*; replace or remove the file$"):
        read(tmp_path / "bad.png", None)
    (tmp_path / "small.png").write_bytes(encoded(".png", gradient()))
    with pytest.raises(DataError, match=r"small\.png: the region ends at \(33, 1\), but the picture is 32x24"):
        read(tmp_path / "small.png", Region(x=32, y=0, width=1, height=1))


@pytest.fixture
def squashed(tmp_path: Path) -> Callable[[Picture], Picture]:
    """The one frame of 32 x 32 pixels that becomes of a picture file."""

    def read(picture: Picture) -> Picture:
        (tmp_path / "part.png").write_bytes(encoded(".png", picture))
        (frame,) = read_frames(tmp_path / "part.png", Framing(side=32))
        return frame

    return read


def test_shrinking_averages_areas(squashed: Callable[[Picture], Picture]) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (128, 192, 3)).astype(np.uint8)
    frame = squashed(picture)
    blocks = picture.reshape(32, 4, 32, 6, 3).mean(axis=(1, 3))
    assert (frame.shape, frame.dtype) == ((32, 32, 3), np.uint8)
    np.testing.assert_allclose(frame.astype(float), blocks, atol=1)


@pytest.mark.parametrize("shape", [(8, 640), (640, 8), (32, 64), (16, 64), (64, 16)])
def test_a_long_thin_picture_does_not_alias(shape: tuple[int, int], squashed: Callable[[Picture], Picture]) -> None:
    """Stripes one pixel wide along the long side average to grey, though the short side is enlarged."""
    stripes = np.zeros((*shape, 3), np.uint8)
    if shape[1] > shape[0]:
        stripes[:, ::2] = 255
    else:
        stripes[::2] = 255
    frame = squashed(stripes)
    assert 120 <= frame.min() <= frame.max() <= 135


def test_enlarging_is_smooth_and_the_same_size_changes_nothing(squashed: Callable[[Picture], Picture]) -> None:
    np.testing.assert_array_equal(squashed(gradient(32, 32)), gradient(32, 32))
    picture = gradient(8, 8)
    large = squashed(picture).astype(int)
    assert large.shape == (32, 32, 3)
    assert np.abs(np.diff(large, axis=1)).max() <= 32
    np.testing.assert_allclose(large.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3)), picture, atol=4)


@pytest.mark.parametrize(
    ("framing", "tiles"),
    [
        (Framing(side=32), 1),
        (Framing(side=32, fit="letterbox"), 1),
        (Framing(side=32, fit="tiles"), 2),
        (Framing(side=32, fit="tiles", tiles=2), 6),
    ],
    ids=str,
)
def test_a_picture_file_as_frames(tmp_path: Path, framing: Framing, tiles: int) -> None:
    """Those into which the picture itself is cut (see test_framing.py), region first."""
    picture = np.random.default_rng(3).integers(0, 256, (60, 84, 3)).astype(np.uint8)
    (tmp_path / "part.png").write_bytes(encoded(".png", picture))
    frames = read_frames(tmp_path / "part.png", framing)
    assert (frames.shape, frames.dtype) == ((tiles, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(frames, cut(picture, framing)[0])
    region = Region(x=20, y=4, width=50, height=50)
    np.testing.assert_array_equal(
        read_frames(tmp_path / "part.png", framing, region), cut(picture[4:54, 20:70], framing)[0]
    )


def test_a_picture_file_that_takes_too_many_tiles_is_named(tmp_path: Path) -> None:
    (tmp_path / "strip.png").write_bytes(encoded(".png", gradient(4, 400)))
    with pytest.raises(DataError, match=r"strip\.png: the picture is 400x4 and takes \d+ tiles.*less elongated region"):
        read_frames(tmp_path / "strip.png", Framing(side=32, fit="tiles"))
