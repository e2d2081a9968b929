"""A JPEG that is decoded smaller becomes the same frames, and stays as large as its file for whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterturn.worker.contract.arrays import Frames, Picture
from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.framing import Framing, cut, scaled_size
from quarterturn.worker.contract.guard import measure
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.contract.traits import Traits
from quarterturn.worker.fitting.embedder import Embedder
from quarterturn.worker.inspection.look import look_at
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.pictures.decode import decode, decode_picture
from quarterturn.worker.pictures.near_duplicates import read_thumbnails, thumbnail
from quarterturn.worker.pictures.read import read_frames, read_picture, see
from quarterturn.worker.pictures.shrinking import shrinkage
from quarterturn.worker.settings.worker import CameraSettings
from tests.parts import NumpyEngine
from tests.worker.pictures.files import encoded

WHOLE = Framing(side=64)
FRAMINGS = [
    WHOLE,
    Framing(side=64, fit="letterbox"),
    Framing(side=32, fit="tiles", tiles=1),
    Framing(side=32, fit="tiles", tiles=2),
]
HEIGHT, WIDTH = 400, 472  # of the textures: hardly more than three times the frames once they are shrunk


LEVELS = {"noise": 0.25, "weave": 1, "brushed": 1, "colours": 0.75, "grain": 2.5, "outlines": 3.5}
"""By how many grey levels frames may differ on average, by texture: more where it is as fine as a frame's pixels."""


def textures() -> dict[str, Picture]:
    """What a camera may see, under the noise of a sensor; harder than any real picture that was measured."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    blobs = cv2.GaussianBlur(rng.normal(size=(HEIGHT, WIDTH)), (0, 0), 2)
    smooth = np.stack([x * 200 / WIDTH + 30, y * 200 / HEIGHT + 20, (x + y) * 100 / (WIDTH + HEIGHT) + 60], axis=-1)
    grey = {
        "weave": 120 + 50 * np.sin(x / 1.7) * np.sin(y / 2.3),
        "brushed": 130 + cv2.GaussianBlur(rng.normal(size=(HEIGHT, WIDTH)), (0, 0), sigmaX=9, sigmaY=1) * 150,
        "grain": 128 + blobs * 400,
        "outlines": np.where(blobs > 0, 210, 40),
        "noise": np.full((HEIGHT, WIDTH), 128),
    }
    pictures = {name: np.repeat(picture[..., None], 3, axis=2) for name, picture in grey.items()}
    pictures["colours"] = smooth + np.stack([blobs, -blobs, blobs[::-1]], axis=-1) * 150
    noise = rng.normal(0, 4, (HEIGHT, WIDTH, 1))
    return {name: (picture + noise).clip(0, 255).astype(np.uint8) for name, picture in pictures.items()}


TEXTURES = textures()


def jpeg(picture: npt.NDArray[np.uint8], quality: int = 90) -> bytes:
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


@pytest.mark.parametrize(
    ("height", "width", "framing", "region", "factor"),
    [
        (480, 640, Framing(side=256), None, 1),
        (1024, 1280, Framing(side=256), None, 1),  # half of it is only twice a frame
        (1536, 2048, Framing(side=256), None, 2),
        (2048, 2448, Framing(side=256), None, 2),
        (2448, 2048, Framing(side=256), None, 2),
        (3000, 4096, Framing(side=256), None, 2),
        (3072, 4096, Framing(side=256), None, 4),
        (6144, 6144, Framing(side=256), None, 8),
        (9600, 9600, Framing(side=32), None, 8),  # as much as libjpeg does
        (2047, 2448, Framing(side=256), None, 1),  # the last row would be half of a square
        (3074, 4096, Framing(side=256), None, 2),
        (3000, 4096, Framing(side=256, fit="letterbox"), None, 4),  # 750 rows for 192
        (3000, 4096, Framing(side=256, fit="tiles", tiles=2), None, 2),  # 30 units of 16 px along 1500
        (3000, 4096, Framing(side=256, fit="tiles", tiles=3), None, 1),
        (3000, 4096, Framing(side=128), Region(x=8, y=16, width=2400, height=2048), 4),
        (3000, 4096, Framing(side=128), Region(x=8, y=16, width=2400, height=600), 1),
        (3000, 4096, Framing(side=128), Region(x=10, y=16, width=2400, height=2048), 2),
        (3000, 4096, Framing(side=128), Region(x=9, y=16, width=2400, height=2048), 1),
        (3000, 4096, Framing(side=128), Region(x=8, y=16, width=2402, height=2048), 2),
    ],
)
def test_by_how_much(height: int, width: int, framing: Framing, region: Region | None, factor: int) -> None:
    assert shrinkage(height, width, region=region, framing=framing) == factor


sides = st.integers(1, 900).flatmap(lambda n: st.sampled_from([n, 8 * n]))


@given(sides, sides, st.sampled_from(FRAMINGS), st.booleans(), st.data())
def test_it_divides_all_edges_keeps_thrice_what_is_needed_and_is_the_most_that_does(
    height: int, width: int, framing: Framing, whole: bool, data: st.DataObject
) -> None:
    region = None
    if not whole:
        x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
        wide, high = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
        region = Region(x=x, y=y, width=wide, height=high)
    edges = (height, width) if region is None else (height, width, region.x, region.y, region.width, region.height)
    looked_at = (height, width) if region is None else (region.height, region.width)
    needed = scaled_size(*looked_at, framing)

    def fits(factor: int) -> bool:
        even = all(edge % factor == 0 for edge in edges)
        return even and all(length / factor >= 3 * need for length, need in zip(looked_at, needed, strict=True))

    expected = max([factor for factor in (2, 4, 8) if fits(factor)], default=1)
    assert shrinkage(height, width, region=region, framing=framing) == expected


@pytest.mark.parametrize("framing", FRAMINGS, ids=str)
@pytest.mark.parametrize("quality", [70, 90, 97])
@pytest.mark.parametrize("texture", LEVELS)
def test_frames_and_what_the_guard_measures_of_them_hardly_differ(framing: Framing, quality: int, texture: str) -> None:
    """docs/decisions/0037 has what was measured of real pictures."""
    data = jpeg(TEXTURES[texture], quality)
    seen = see(data, framing)
    expected, layout = cut(decode_picture(data), framing)
    frames, found = cut(seen.picture, framing)
    assert seen.shrunk > 1
    assert found == layout
    assert np.abs(frames.astype(int) - expected).mean() < LEVELS[texture]
    change = measure(frames) - measure(expected)
    assert abs(change[0]) < 0.5  # brightness
    assert np.abs(change[3:]).max() <= 6  # its darkest and brightest tones
    offsets = np.array([1.0, 0.5])  # as the guard compares contrast and sharpness; it allows a factor of 1.5 at least
    factors = (measure(frames)[1:3] + offsets) / (measure(expected)[1:3] + offsets)
    assert np.abs(np.log(factors)).max() < np.log(1.15)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_other_files_are_read_in_full(suffix: str) -> None:
    picture = TEXTURES["weave"]
    seen = see(encoded(suffix, picture), Framing(side=32))
    np.testing.assert_array_equal(seen.picture, picture)
    assert (seen.shrunk, seen.size) == (1, (WIDTH, HEIGHT))


ALIGNED = Region(x=16, y=8, width=440, height=392)
ODD = Region(x=17, y=8, width=440, height=392)


@pytest.mark.parametrize(("region", "shrunk"), [(ALIGNED, 4), (ODD, 1)], ids=["aligned", "odd"])
def test_a_region_is_in_pixels_of_the_file(region: Region, shrunk: int) -> None:
    data, framing = jpeg(TEXTURES["brushed"]), Framing(side=32)
    seen = see(data, framing, region)
    assert (seen.shrunk, seen.size) == (shrunk, (440, 392))
    there = decode_picture(data)[8:400, region.x : region.x + 440]
    assert np.abs(cut(seen.picture, framing)[0].astype(int) - cut(there, framing)[0]).mean() < 1


def test_a_region_outside_is_told_in_pixels_of_the_file() -> None:
    region = Region(x=64, y=8, width=440, height=392)
    with pytest.raises(FrameError, match=r"ends at \(504, 400\), but the picture is 472x400") as caught:
        see(jpeg(TEXTURES["grain"]), Framing(side=32), region)
    assert caught.value.reason == "region_outside"


def test_a_region_is_of_the_picture_as_it_stands() -> None:
    """The file is 1600 high and 200 wide, and to be turned by a quarter."""
    stored = np.repeat(TEXTURES["colours"][:, :200], 4, axis=0)
    data = jpeg(stored)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    turned = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    seen = see(turned, Framing(side=32), Region(x=16, y=4, width=1200, height=196))
    assert (seen.shrunk, seen.size) == (2, (1200, 196))
    upright = np.rot90(decode_picture(data), -1)[4:200, 16:1216]
    averages = upright.reshape(98, 2, 600, 2, 3).mean(axis=(1, 3))
    assert np.abs(seen.picture - averages).mean() < 2


def frames_of_a_camera(path: Path, framing: Framing, region: Region | None) -> Frames:
    frame = Frame(Position("frames", 0, 0), b"top", {}, path.read_bytes())
    return look_at(frame, frame.info(), CameraSettings(region=region), framing).tiles


def frames_of_a_bank(path: Path, framing: Framing, region: Region | None) -> Frames:
    engine, seen = NumpyEngine(), []
    spec = engine.spec.model_copy(update={"framing": framing})
    one = Embedder(spec, lambda frames: seen.append(frames) or {}, region)
    for _ in one.embed(one.read([path])):
        pass
    return seen[0]


@pytest.mark.parametrize("region", [None, ALIGNED, ODD], ids=["whole", "aligned", "odd"])
@pytest.mark.parametrize("framing", [Framing(side=32), *FRAMINGS[1:]], ids=str)
@pytest.mark.parametrize("frames_of", [frames_of_a_camera, frames_of_a_bank])
def test_training_fitting_and_serving_see_the_same_to_the_last_bit(
    frames_of: Callable[[Path, Framing, Region | None], Frames], framing: Framing, region: Region | None, tmp_path: Path
) -> None:
    path = tmp_path / "part.jpg"
    path.write_bytes(jpeg(TEXTURES["brushed"]))
    trained_on = read_frames(path, framing, region)
    np.testing.assert_array_equal(frames_of(path, framing, region), trained_on)
    in_full = cut(read_picture(path, region), framing)[0]
    assert (region == ODD) == np.array_equal(trained_on, in_full)


def test_what_is_told_of_a_picture_is_what_its_file_is(tmp_path: Path) -> None:
    path, data = tmp_path / "part.jpg", jpeg(TEXTURES["colours"])
    path.write_bytes(data)
    frame = Frame(Position("frames", 0, 0), b"top", {}, data)
    looks = [
        look_at(frame, frame.info(), CameraSettings(), framing) for framing in (Framing(side=32), Framing(side=256))
    ]
    seen = decode(data)
    expected = Traits.of(seen, cut(seen.picture, Framing(side=32))[0])
    assert expected.size == (WIDTH, HEIGHT)
    assert [look.traits for look in looks] == [expected, expected]
    engine = NumpyEngine()
    one = Embedder(engine.spec, engine.embed)
    assert sum(len(batch) for batch in one.read([path])) == 1
    assert one.sights[path].traits == expected


def test_thumbnails_are_those_of_the_whole_picture(tmp_path: Path) -> None:
    for name, picture in TEXTURES.items():
        path = tmp_path / f"{name}.jpg"
        path.write_bytes(jpeg(picture))
        assert see(path.read_bytes(), Framing(side=64)).shrunk == 2
        whole = cv2.cvtColor(read_picture(path), cv2.COLOR_RGB2GRAY)
        (found,) = read_thumbnails([path])
        assert np.abs(found.astype(int) - thumbnail(np.asarray(whole, np.uint8))).mean() < LEVELS[name]
