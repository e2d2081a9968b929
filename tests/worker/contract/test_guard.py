from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.worker.contract.framing import Framing, cut
from quarterturn.worker.contract.guard import MEASURES, in_words, limits_of, measure, unusable

Picture = npt.NDArray[np.uint8]
NAMES = [one.name for one in MEASURES]
OFFSETS = {"contrast": 1.0, "sharpness": 0.5, "red": 0.0, "blue": 0.0}  # the others are grey levels


def surface(rng: np.random.Generator, side: int = 96) -> Picture:
    """A good picture: a grained surface with a bright and a dark part."""
    picture = rng.normal(120, 8, (side, side, 1)).repeat(3, axis=2)
    picture[side // 8 : side // 2, side // 8 : side // 2] += 60
    picture[side // 2 :, side // 2 : side * 3 // 4] -= 50
    return np.clip(picture, 0, 255).astype(np.uint8)


def measured(picture: Picture) -> npt.NDArray[np.float32]:
    return measure(picture[None])


def counted_by_hand(tiles: npt.NDArray[np.uint8]) -> list[float]:
    """The numbers of grey tiles (T, S, S), pixel by pixel."""
    every = sorted(tiles.ravel().tolist())
    mean = sum(every) / len(every)
    deviation = math.sqrt(sum((one - mean) ** 2 for one in every) / len(every))
    detail = 0
    for tile in tiles.astype(int):
        around = np.pad(tile, 1, mode="reflect")
        for y in range(len(tile)):
            for x in range(len(tile)):
                cross = around[y, x + 1] + around[y + 2, x + 1] + around[y + 1, x] + around[y + 1, x + 2]
                detail += abs(int(cross) - 4 * int(tile[y, x]))
    ends = [every[math.ceil(share * len(every)) - 1] for share in (0.01, 0.99)]
    return [mean, deviation, detail / len(every), *ends, 100, 100]


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), tiles=st.integers(1, 3), spread=st.integers(0, 128))
def test_what_is_measured(seed: int, tiles: int, spread: int) -> None:
    rng = np.random.default_rng(seed)
    grey = rng.integers(127 - spread // 2, 128 + spread // 2, (tiles, 16, 16), endpoint=True).astype(np.uint8)
    found = measure(grey[..., None].repeat(3, axis=-1))
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx(counted_by_hand(grey), rel=1e-4, abs=1e-4)


@given(colour=st.tuples(*[st.integers(0, 255)] * 3))
def test_red_and_blue_are_measured_beside_green(colour: tuple[int, int, int]) -> None:
    """Of two tiles, one of which is black: what counts is the whole picture."""
    tiles = np.stack([np.full((8, 8, 3), colour, np.uint8), np.zeros((8, 8, 3), np.uint8)])
    red, green, blue = (value / 2 + 1 for value in colour)
    assert measure(tiles)[5:].tolist() == pytest.approx([100 * red / green, 100 * blue / green], rel=1e-5)


def test_colour_is_measured_as_its_brightness() -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    found = [measured(np.tile(colour, (16, 16, 1)))[0] for colour in colours[0]]
    assert found == pytest.approx([0.299 * 255, 0.587 * 255, 0.114 * 255], abs=0.6)


levels, shares = st.floats(0, 255, width=32), st.floats(0.5, 20_000, width=32)
numbers = st.lists(st.tuples(*[levels] * 5, *[shares] * 2).map(list), min_size=1, max_size=12).map(
    lambda rows: np.array(rows, np.float32)
)


@settings(max_examples=100)
@given(numbers)
def test_limits_are_the_range_and_a_share_of_it_beyond(rows: npt.NDArray[np.float32]) -> None:
    limits = limits_of(rows)
    assert (limits.shape, limits.dtype) == ((7, 2), np.float32)
    for name, values, (low, high) in zip(NAMES, rows.T.tolist(), limits.tolist(), strict=True):
        share = 0.25 + 10 / len(values)
        if (offset := OFFSETS.get(name)) is not None:
            logs = [math.log(value + offset) for value in values]
            margin = max(share * (max(logs) - min(logs)), math.log(1.5))
            ends = [math.exp(min(logs) - margin) - offset, math.exp(max(logs) + margin) - offset]
        else:
            margin = max(share * (max(values) - min(values)), 32)
            ends = [min(values) - margin, max(values) + margin]
        assert [low, high] == pytest.approx(ends, rel=1e-3, abs=1e-3)


@settings(max_examples=100)
@given(numbers)
def test_what_the_limits_were_learned_from_is_usable(rows: npt.NDArray[np.float32]) -> None:
    limits = limits_of(rows)
    assert np.isfinite(limits).all()
    assert [unusable(row, limits) for row in rows] == [None] * len(rows)


SPOILT: dict[str, tuple[str, npt.NDArray[np.uint8]]] = {}
RNG = np.random.default_rng(5)
GOOD = surface(RNG)
for kind, why, spoilt in (
    ("black", "too dark: brightness 0 of ", np.zeros_like(GOOD)),
    ("white", "too bright: brightness 255 of ", np.full_like(GOOD, 255)),
    ("grey", "too little contrast: contrast 0 of ", np.full_like(GOOD, int(GOOD.mean()))),
    ("a tenth of the light", "too dark: brightness ", GOOD // 10),
    ("four times the light", "too bright: brightness ", cv2.convertScaleAbs(GOOD, alpha=4)),
    ("blurred", "blurred or blank: sharpness ", cv2.GaussianBlur(GOOD, (0, 0), 4)),
    ("noise", "too much contrast: contrast ", RNG.integers(0, 256, GOOD.shape)),
    ("grainy", "noisy or too sharp: sharpness ", np.clip(GOOD + RNG.normal(0, 30, GOOD.shape), 0, 255)),
    ("black level gone up", "shadows too bright: darkest tone ", np.maximum(GOOD, 105)),
    ("lights cut off", "lights too dark: brightest tone ", np.minimum(GOOD, 135)),
    ("a red lamp", "too red: red ", GOOD * [1.3, 0.8, 0.8]),
    ("no red light", "too little red: red ", GOOD * [0.6, 1, 1]),
    ("a blue lamp", "too blue: blue ", GOOD * [0.95, 0.8, 1.3]),
    ("no blue light", "too little blue: blue ", GOOD * [1, 1, 0.6]),
):
    SPOILT[kind] = (why, np.asarray(spoilt, np.uint8))


@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.parametrize("count", [1, 20])
def test_a_picture_that_cannot_be_judged_is_told_why(kind: str, count: int) -> None:
    """Also where one picture, or twenty copies of it, is all that was learned from."""
    limits = limits_of(np.stack([measured(surface(np.random.default_rng(seed))) for seed in range(count)]))
    assert unusable(measured(GOOD), limits) is None
    why, picture = SPOILT[kind]
    reason = unusable(measured(picture), limits)
    assert reason is not None
    assert reason.startswith(why)


def test_pictures_that_are_all_identical_admit_as_good_a_light() -> None:
    limits = limits_of(np.stack([measured(GOOD)] * 40))
    assert np.isfinite(limits).all()
    for other in (GOOD, GOOD + np.uint8(20), GOOD - np.uint8(20), surface(np.random.default_rng(9))):
        assert unusable(measured(other), limits) is None


def test_limits_in_words_are_not_below_zero() -> None:
    assert in_words(limits_of(np.array([[10, 5, 3, 0, 200, 100, 90]], np.float32))) == (
        "brightness 0 to 42, contrast 3 to 8, sharpness 1.83 to 4.75, darkest tone 0 to 32, "
        "brightest tone 168 to 232, red 66.7 to 150, blue 60 to 135"
    )


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "tiles"])
def test_every_framing_measures_nearly_the_same(fit: str) -> None:
    wide = np.hstack([surface(np.random.default_rng(seed)) for seed in range(2)])
    brightness, contrast, *_ = measure(cut(wide, Framing(side=96, fit=fit))[0]).tolist()
    assert brightness == pytest.approx(wide.mean(), rel=0.1)
    assert contrast == pytest.approx(wide.std(), rel=0.2)
