"""What is usual of the good pictures of a product: the measures by which a camera is seen to drift.

A *measure* is what an alarm names; a *quantity* is one number of a picture. Registration has four of them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from quarterturn.worker.contract.arrays import Array

Measure = Literal["score", "brightness", "sharpness", "colour", "registration"]
Quantity = Literal["score", "brightness", "sharpness", "red", "blue", "x", "y", "turn", "size"]

BINS = 32
"""Of the numbers of a stream: so many are counted apart."""

_QUARTER = 1.349  # spreads of a normal distribution between its quartiles
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a quantity before any picture: `finest` is how far it may always wander."""

    name: Quantity
    measure: Measure
    finest: float
    falls: bool = True  # whether it can also be too small


KINDS = (
    Kind("score", "score", 0.0, falls=False),
    Kind("brightness", "brightness", 0.5),
    Kind("sharpness", "sharpness", 0.01),
    Kind("red", "colour", 0.005),
    Kind("blue", "colour", 0.005),
    Kind("x", "registration", 0.0015),
    Kind("y", "registration", 0.0015),
    Kind("turn", "registration", 0.2),
    Kind("size", "registration", 0.003),
)
"""The Q quantities, in the order of all arrays. In grey levels, as logarithms, and as in `registration.MOTIONS`."""


def quantities(score: float, measured: Array, motion: Array) -> tuple[float, ...]:
    """(Q,) of a picture, from its score, the (M,) that it measures for the picture guard, and its (4,) motion.

    Sharpness is log(detail / contrast): both change alike with the light, so that a weak lamp is no blur. Red and blue
    are logarithms of their shares of green.
    """
    brightness, contrast, detail, _, _, red, blue = measured.tolist()
    sharpness = math.log((detail + 0.5) / (contrast + 1))
    return (score, brightness, sharpness, math.log(red / 100), math.log(blue / 100), *motion.tolist())


@dataclass(frozen=True)
class Range:
    """The numbers of one quantity of n calibration pictures: `values` (n,) and the `edges` of bins, both ascending."""

    values: list[float]
    edges: list[float]
    middle: float
    spread: float
    finest: float

    @classmethod
    def of(cls, values: Sequence[float], finest: float) -> Range:
        """Of n numbers, one or more."""
        ordered = np.sort(np.asarray(values, np.float64))
        low, middle, high = np.quantile(ordered, (0.25, 0.5, 0.75))
        spread = max((high - low) / _QUARTER, finest, _TINY)
        # Two edges lie beyond all numbers: where these are all alike, no other tells what is far off from what is not.
        edges = np.quantile(ordered, np.arange(1, BINS - 2) / (BINS - 2))
        edges = np.unique([ordered[0] - spread, *edges, ordered[-1] + spread])
        return cls(ordered.tolist(), edges.tolist(), float(middle), float(spread), finest)

    def bin_of(self, value: float) -> int:
        """Which of `BINS` bins a number of the stream belongs to."""
        return bisect_right(self.edges, value)

    def deviation(self, value: float) -> float:
        """How many spreads `value` lies above the middle."""
        return (value - self.middle) / self.spread


@dataclass(frozen=True)
class Usual:
    """What is usual of a product of the bank of this version: a range for each of the Q quantities that can be told."""

    bank: str
    product: str
    ranges: tuple[Range | None, ...]

    @classmethod
    def of(cls, bank: str, product: str, pictures: Sequence[Sequence[float]], told: Array) -> Usual:
        """From n calibration pictures' Q quantities each, and the (4,) that is 1 for motions that can be told."""
        can_be_told = [True] * (len(KINDS) - len(told)) + [bool(one) for one in told]
        ranges = [
            Range.of(values, kind.finest) if can else None
            for values, kind, can in zip(zip(*pictures, strict=True), KINDS, can_be_told, strict=True)
        ]
        return cls(bank, product, tuple(ranges))


@dataclass(frozen=True, slots=True)
class Measures:
    """How one picture measures, (Q,) beside what is usual of the product that it shows; `size` in pixels (w, h)."""

    values: tuple[float, ...]
    usual: Usual
    size: tuple[int, int]
