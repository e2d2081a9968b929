from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quarterturn.worker.contract.errors import DataError, FrameError
from quarterturn.worker.contract.framing import Framing, cut
from quarterturn.worker.contract.picture import BitDepth, Region
from quarterturn.worker.pictures.read import crop, depth_doubt, read_frames, read_picture
from tests.parts import png_of_depth
from tests.worker.pictures.files import Picture, encoded, gradient


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
    with pytest.raises(
        DataError, match=r"strip\.png: the picture is 100\.0 times as long as .* takes \d+ tiles.*less elongated region"
    ):
        read_frames(tmp_path / "strip.png", Framing(side=32, fit="tiles"))


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_a_picture_file_has_the_depth_that_is_said(tmp_path: Path, bits: BitDepth) -> None:
    path, framing = tmp_path / "part.png", Framing(side=32)
    path.write_bytes(png_of_depth(gradient(), bits))
    np.testing.assert_array_equal(read_picture(path, None, bits), gradient())
    np.testing.assert_array_equal(read_frames(path, framing, None, bits), cut(gradient(), framing)[0])
    assert depth_doubt(path, bits) == ""
    if bits < 16:
        assert depth_doubt(path, None).startswith(f"{path}: ") is (bits <= 12)
        path.write_bytes(png_of_depth(gradient(), 16))
        with pytest.raises(DataError, match=r"part\.png: a sample is 6\d+, but"):
            read_picture(path, None, bits)


def test_a_picture_of_eight_bits_is_doubted_where_a_depth_is_said(tmp_path: Path) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(encoded(".png", gradient()))
    np.testing.assert_array_equal(read_picture(path, None, 12), gradient())
    assert depth_doubt(path, 12).startswith(f"{path}: samples have 8 bits, bit_depth says 12")
