"""Ladders of what changes on a line: light, focus, noise, compression and place, a little more with each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from benchmarks.foreign import Make, Picture


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a ladder, and what it makes of a picture (H, W, 3) uint8 RGB."""

    ladder: str
    says: str
    make: Make


def _levels(change: Callable[[np.ndarray], np.ndarray]) -> Make:
    """By a curve over the 256 levels, as (256, 1 or 3)."""
    table = np.clip(np.rint(change(np.arange(256.0)[:, None])), 0, 255).astype(np.uint8)
    return lambda _, good: np.stack([table[good[..., c], c % table.shape[1]] for c in range(3)], axis=-1)


def _light(factor: float) -> Make:
    return _levels(lambda levels: factor * levels)


def _gamma(power: float) -> Make:
    return _levels(lambda levels: 255 * (levels / 255) ** power)


def _colour(red: float) -> Make:
    """More red and less blue, at about the same brightness."""
    return _levels(lambda levels: levels * np.array([1 + red, 1.0, 1 - red]))


def _blur(share: float) -> Make:
    """`share` of the shorter side is the width (sigma) of the blur."""
    return lambda _, good: cv2.GaussianBlur(good, (0, 0), share * min(good.shape[:2])).astype(np.uint8)


def _noise(deviation: float) -> Make:
    return lambda rng, good: np.clip(np.rint(good + rng.normal(0, deviation, good.shape)), 0, 255).astype(np.uint8)


def _jpeg(quality: int) -> Make:
    def make(_: np.random.Generator, good: Picture) -> Picture:
        coded = cv2.imencode(".jpg", good[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.ascontiguousarray(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])

    return make


def place(right: float = 0, down: float = 0, turn: float = 0, size: float = 0) -> Make:
    """Moved by shares of the width and height, turned clockwise by degrees, larger by a share; edges go on."""

    return lambda _, good: warped(good, motion(good, right, down, turn, size))


def motion(picture: Picture, right: float, down: float, turn: float, size: float) -> np.ndarray:
    """(2, 3): the affine map that moves a picture so, see `place`."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -turn, 1 + size)
    return matrix + np.array([[0, 0, right * width], [0, 0, down * height]])


def warped(picture: Picture, matrix: np.ndarray, flags: int = 0) -> Picture:
    """By cubic interpolation, which blurs least: a camera that is moved does not."""
    height, width = picture.shape[:2]
    return cv2.warpAffine(
        picture, matrix, (width, height), flags=cv2.INTER_CUBIC | flags, borderMode=cv2.BORDER_REPLICATE
    ).astype(np.uint8)


_LADDERS: dict[str, dict[str, Make]] = {
    "brightness": {f"× {factor:g}": _light(factor) for factor in (0.95, 0.9, 0.8, 0.6, 1.05, 1.1, 1.25, 1.5)},
    "gamma": {f"{power:g}": _gamma(power) for power in (0.9, 0.7, 1.1, 1.4)},
    "colour": {f"red + {red:.0%}": _colour(red) for red in (0.05, 0.1, 0.2)},
    "blur": {f"σ {share:.1%}": _blur(share) for share in (0.002, 0.004, 0.008, 0.016)},
    "noise": {f"σ {deviation:g}": _noise(deviation) for deviation in (2, 5, 10, 20)},
    "JPEG": {f"quality {quality}": _jpeg(quality) for quality in (90, 70, 40, 15)},
    "shift": {f"{share:.0%}": place(right=share, down=share / 2) for share in (0.01, 0.02, 0.04, 0.08)},
    "rotation": {f"{degrees:g}°": place(turn=degrees) for degrees in (1, 2, 5, 10)},
    "scale": {f"{share:+.0%}": place(size=share) for share in (-0.05, 0.02, 0.05, 0.1)},
}

STEPS = [Step(ladder, says, make) for ladder, steps in _LADDERS.items() for says, make in steps.items()]
AS_THEY_ARE = Step("as they are", "", lambda _, good: good)
MOVED = (AS_THEY_ARE.ladder, "shift", "rotation", "scale")
"""Ladders that a picture laid back onto the bank's may undo, and what it must not spoil."""
