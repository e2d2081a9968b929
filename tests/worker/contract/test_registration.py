from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from quarterturn.worker.contract.framing import Framing, cut
from quarterturn.worker.contract.registration import MOTIONS, SIDE, Registration, small_picture

Picture = npt.NDArray[np.uint8]
SPREAD = np.array([0.008, 0.008, 1.0, 0.008])  # of good parts, by motion


def seen(x: float = 0, y: float = 0, turn: float = 0, size: float = 0, *, noise: int = 0) -> Picture:
    """A part (128, 128, 3) that lies so far to the right, down, clockwise and nearer, drawn by its corners."""
    corners = np.array([[-0.25, -0.2], [0.3, -0.25], [0.2, 0.1], [0.28, 0.3], [-0.1, 0.22], [-0.3, 0.3]])
    angle = np.radians(turn)  # y points down, so a positive angle is clockwise
    turned = corners @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    drawn = (128 * ((1 + size) * turned + [0.5 + x, 0.5 + y]) - 0.5) * 16
    picture = np.full((128, 128, 3), 60, np.uint8)
    cv2.fillPoly(picture, [np.rint(drawn).astype(np.int32)], (180, 170, 160), cv2.LINE_AA, 4)
    rng = np.random.default_rng(noise)
    return np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def lies(rng: np.random.Generator, n: int) -> Picture:
    return seen(*(rng.normal(size=4) * SPREAD), noise=n)


def lies_anywhere(rng: np.random.Generator, n: int) -> Picture:
    return seen(*rng.uniform(-0.2, 0.2, 2), rng.uniform(0, 360), noise=n)


def lies_near_and_turned(rng: np.random.Generator, n: int) -> Picture:
    return seen(*rng.normal(0, 0.008, 2), rng.uniform(0, 360), noise=n)


def texture(rng: np.random.Generator, n: int) -> Picture:
    rough = cv2.GaussianBlur(rng.normal(0, 300, (128, 128)), (0, 0), 4)
    return np.clip(128 + np.repeat(rough[..., None], 3, axis=2), 0, 255).astype(np.uint8)


def small(picture: Picture) -> Picture:
    return small_picture(*cut(picture, Framing(side=64)))


def fitted(make: Callable[[np.random.Generator, int], Picture], count: int = 60) -> Registration:
    rng = np.random.default_rng(1)
    pictures = [small(make(rng, n)) for n in range(count)]
    return Registration.fit(pictures[::2], pictures[1::2])


@pytest.mark.parametrize("motion", range(len(MOTIONS)), ids=MOTIONS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_which_way_a_part_has_moved_and_about_how_far(motion: int, sign: int) -> None:
    registration = fitted(lies)
    assert registration.told.tolist() == [1, 1, 1, 1]
    for amount in (2, 4):  # spreads
        by = sign * amount * SPREAD * (np.arange(4) == motion)
        found = np.mean([registration.motion(small(seen(*by, noise=n))) for n in range(5)], axis=0)
        assert found[motion] == pytest.approx(by[motion], rel=0.35)
        others = np.delete(found / SPREAD, motion)
        assert np.abs(others).max() < 1


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lies, [1, 1, 1, 1]),
        (lies_near_and_turned, [1, 1, 0, None]),
        (lies_anywhere, [0, 0, 0, None]),
        (texture, [0] * 4),
    ],
    ids=["aligned", "turned freely", "anywhere", "texture"],
)
def test_what_can_be_told_depends_on_how_good_parts_lie(
    make: Callable[[np.random.Generator, int], Picture], told: list[int | None]
) -> None:
    found = fitted(make).told.tolist()
    assert [one for one, wanted in zip(found, told, strict=True) if wanted is not None] == [
        one for one in told if one is not None
    ]


def test_light_moves_nothing() -> None:
    registration, picture = fitted(lies), seen(0.02)
    still = registration.motion(small(picture))
    for factor, more in ((0.6, 0), (1.2, 0), (1, 40), (0.7, 50)):
        lit = cv2.convertScaleAbs(picture, alpha=factor, beta=more).astype(np.uint8)
        assert registration.motion(small(lit)) / SPREAD == pytest.approx(still / SPREAD, abs=0.15)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_picture_lies_nowhere_in_particular(level: int) -> None:
    motion = fitted(lies).motion(np.full((SIDE, SIDE), level, np.uint8))
    assert np.isfinite(motion).all()
    assert (np.abs(motion) <= [0.25, 0.25, 45, 0.5]).all()
    flat = Registration.fit([np.full((SIDE, SIDE), level, np.uint8)] * 2, [np.full((SIDE, SIDE), level, np.uint8)] * 2)
    assert flat.told.tolist() == [0] * 4
    assert flat.motion(small(seen())).tolist() == [0] * 4


@pytest.mark.parametrize(
    "framing", [Framing(side=64, fit="letterbox"), Framing(side=64, fit="tiles", tiles=2), Framing(side=32)], ids=str
)
@pytest.mark.parametrize("shape", [(128, 128), (96, 160)])
def test_a_picture_is_small_alike_however_it_is_cut(framing: Framing, shape: tuple[int, int]) -> None:
    picture = cv2.GaussianBlur(cv2.resize(seen(), shape[::-1]), (0, 0), 3).astype(np.uint8)
    found = small_picture(*cut(picture, framing))
    assert (found.shape, found.dtype) == ((SIDE, SIDE), np.uint8)
    assert np.abs(found.astype(int) - small(picture)).mean() <= 2
