from __future__ import annotations

import base64

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.inspection.heatmap import decode, encode, glaze, overlay


def random_heat(height: int, width: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).gamma(2, 0.4, (height, width)).astype(np.float32)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(0, 1000))
def test_a_map_comes_back(height: int, width: int, seed: int) -> None:
    heat = random_heat(height, width, seed)
    back = decode(encode(heat))
    assert (back.shape, back.dtype) == ((height, width), np.float32)
    np.testing.assert_allclose(back, np.minimum(heat, 255 / 64), atol=1 / 128 + 1e-6)


def test_the_levels_that_the_schema_promises() -> None:
    heat = np.array([[0, 0.25, 1.0, 3.0, 100.0, -1.0, np.inf]], np.float32)
    png = base64.b64decode(encode(heat))
    levels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert png.startswith(b"\x89PNG")
    assert levels.tolist() == [[0, 16, 64, 192, 255, 0, 255]]


@pytest.mark.parametrize(("shape", "shrunk"), [((128, 256), (32, 64)), ((65, 3), (64, 3)), ((1000, 1), (64, 1))])
def test_a_large_map_is_shrunk_and_keeps_its_peaks(shape: tuple[int, int], shrunk: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        heat = np.zeros(shape, np.float32)
        y, x = (int(rng.integers(side)) for side in shape)
        heat[y, x] = 2
        back = decode(encode(heat))
        assert back.shape == shrunk
        assert (back > 0).sum() == 1
        assert back.max() == 2
        peak = np.unravel_index(back.argmax(), shrunk)
        for at, cell, cells, fewer in zip((y, x), peak, shape, shrunk, strict=True):
            assert abs((at + 0.5) / cells - (cell + 0.5) / fewer) <= 1 / fewer


def test_blocks_of_the_same_size_by_a_loop() -> None:
    heat = np.round(random_heat(192, 128) * 64) / 64
    expected = [[heat[3 * y : 3 * y + 3, 3 * x : 3 * x + 3].max() for x in range(43)] for y in range(64)]
    back = decode(encode(np.pad(heat, ((0, 0), (0, 1))).astype(np.float32)))
    np.testing.assert_array_equal(back, np.minimum(expected, 255 / 64))


def png_text(pixels: npt.NDArray[np.generic]) -> str:
    return base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("not base64!", "heat map: 'not base64!' is no base64; take the field from the alert unchanged"),
        ("grün", "heat map: 'grün' is no base64"),
        ("", "heat map: is no PNG of up to 64x64 px"),
        (base64.b64encode(b"\x89PNG\r\n\x1a\n").decode(), "heat map: is no PNG of up to 64x64 px"),
        (base64.b64encode(b"GIF89a" + bytes(40)).decode(), "heat map: is no PNG of up to 64x64 px"),
        (png_text(np.zeros((65, 2), np.uint8)), "heat map: is no PNG of up to 64x64 px"),
        (png_text(np.zeros((4, 4, 3), np.uint8)), "heat map: is no 8-bit grey PNG"),
        (png_text(np.zeros((4, 4), np.uint16)), "heat map: is no 8-bit grey PNG"),
        (base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode(), "or a damaged one; take the field"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(text: str, says: str) -> None:
    with pytest.raises(DataError) as error:
        decode(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def grey(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.full((height, width, 3), 120, np.uint8)


def test_nothing_is_drawn_below_half_a_threshold() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    original = picture.copy()
    drawn = overlay(picture, np.full((4, 4), 0.5, np.float32))
    np.testing.assert_array_equal(drawn, original)
    assert drawn is not picture
    overlay(picture, np.full((4, 4), 2, np.float32))
    np.testing.assert_array_equal(picture, original)


def test_the_worse_the_darker_and_the_redder() -> None:
    values = np.linspace(0.55, 2.0, 30)
    picture = np.full((9, 9, 3), 255, np.uint8)
    colours = np.array([overlay(picture, np.full((1, 1), value, np.float32))[4, 4] for value in values], float)
    luma = colours @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) < 0).all()
    assert (np.diff(colours[:, 1]) < 0).all()
    assert colours[0, 2] < 255
    drawn = overlay(picture, np.full((1, 1), 9, np.float32))[4, 4]
    np.testing.assert_array_equal(drawn, colours[-1])


def test_the_colour_lies_where_the_heat_is_and_the_line_where_it_reaches_the_threshold() -> None:
    heat = np.zeros((8, 10), np.float32)
    heat[2, 7] = 3
    drawn = overlay(grey(160, 200), heat)
    touched = np.argwhere((drawn != 120).any(axis=2))
    np.testing.assert_allclose(touched.mean(axis=0), (2.5 * 20, 7.5 * 20), atol=1)
    white = np.argwhere(drawn[..., 2] > 150)  # neither the picture nor yellow or red is as blue
    # Half a pixel beside the peak the heat is 0.975 · 3, and falls to 0 over one cell of 20 px: to 1 within 13.2 px.
    assert {abs(x - 149.5) for y, x in white if y == 50} == {12.5}


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (33, 31), (200, 50)])
def test_any_grid_fits_any_picture(shape: tuple[int, int]) -> None:
    drawn = overlay(grey(37, 91), random_heat(*shape) + 1)
    assert (drawn.shape, drawn.dtype) == ((37, 91, 3), np.uint8)
    assert (drawn != 120).any(axis=2).mean() > 0.9


@pytest.mark.parametrize("size", [(120, 160), (197, 131)])
def test_a_glaze_laid_over_a_picture_is_the_overlay(size: tuple[int, int]) -> None:
    """As a browser lays it, by its opacity."""
    heat = np.zeros((8, 8), np.float32)
    heat[2:5, 3:6] = 2.5
    picture = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    layer = glaze(heat, *size).astype(np.float64)
    opacity = layer[..., 3:] / 255
    laid = picture * (1 - opacity) + layer[..., :3] * opacity
    differ = np.abs(laid - overlay(picture, heat)).max(2) > 1.5
    assert layer[..., 3].any()
    assert differ.mean() < 0.03, "along the smooth edge of the white line alone"
    assert not glaze(np.full((8, 8), 0.4, np.float32), *size)[..., 3].any(), "below half a threshold nothing is drawn"
