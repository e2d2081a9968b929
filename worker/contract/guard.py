"""The picture guard: whether a picture can be judged at all, measured beside the good pictures of its product.

Scores say how far a part is from good ones by features that were chosen to ignore light and focus; a frame that is too
dark, too bright or out of focus may look like a good part to them. So a few plain numbers of the picture's tones and
colours must lie where those of the good pictures do, or near it. M measures, in the order of `MEASURES`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Array, Frames

_SHARE = 0.25  # of the range of good pictures, allowed beyond either end; this and the next: docs/decisions/0031
_FEW = 10.0  # few pictures do not show the whole range: n of them have this share / n more allowed
_LEVELS = 32.0  # grey levels that are always allowed beyond: good pictures that are all alike have no range
_FACTOR = 1.5  # the same for what varies by factors: contrast, sharpness, colours
_ENDS = (0.01, 0.99)  # shares of the pixels that are darker than the darkest and the brightest tone


@dataclass(frozen=True, slots=True)
class _Measure:
    """One number of a picture; `too_low` and `too_high` say what a picture is whose number lies beyond the limits.

    `offset` is None for grey levels, else the number is compared as log(value + offset): nearly flat pictures all
    count alike.
    """

    name: str
    too_low: str
    too_high: str
    offset: float | None = None


MEASURES = (
    _Measure("brightness", "too dark", "too bright"),
    _Measure("contrast", "too little contrast", "too much contrast", offset=1.0),
    _Measure("sharpness", "blurred or blank", "noisy or too sharp", offset=0.5),
    _Measure("darkest tone", "shadows too dark", "shadows too bright"),
    _Measure("brightest tone", "lights too dark", "lights too bright"),
    _Measure("red", "too little red", "too red", offset=0.0),
    _Measure("blue", "too little blue", "too blue", offset=0.0),
)


def measure(frames: Frames) -> Array:
    """(M,) of the picture whose (T, S, S, 3) uint8 RGB tiles these are.

    Grey levels: their mean, their standard deviation, the mean size of their Laplacian, and the tones that 1% and 99%
    of the pixels lie at or below. Colours: the mean of red and that of blue, in percent of the mean of green, one level
    added to each, so that a black picture has no colour.
    """
    grey = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in frames]
    counts = np.sum([cv2.calcHist([one], [0], None, [256], [0, 256]).ravel() for one in grey], axis=0, dtype=np.float64)
    levels, total = np.arange(256), counts.sum()
    mean = counts @ levels / total
    deviation = np.sqrt(counts @ (levels - mean) ** 2 / total)
    detail = sum(cv2.norm(cv2.Laplacian(one, cv2.CV_16S), cv2.NORM_L1) for one in grey) / total
    ends = np.searchsorted(counts.cumsum() / total, _ENDS)
    red, green, blue = np.mean([cv2.mean(frame)[:3] for frame in frames], axis=0) + 1
    return np.array([mean, deviation, detail, *ends, 100 * red / green, 100 * blue / green], np.float32)


def limits_of(measured: npt.NDArray[np.floating]) -> Array:
    """(M, 2) the lowest and the highest that a picture may measure, from the (n, M) of n >= 1 good ones.

    The range of the good ones, and a quarter of it beyond either end: more where they are few, and never so little
    that pictures which are all alike admit only their own kind of light.
    """
    limits = np.empty((len(MEASURES), 2))
    for m, one in enumerate(MEASURES):
        values = np.asarray(measured[:, m], np.float64)
        if one.offset is not None:
            values = np.log(values + one.offset)
        least = _LEVELS if one.offset is None else np.log(_FACTOR)
        margin = max((_SHARE + _FEW / len(values)) * np.ptp(values), least)
        ends = np.array([values.min() - margin, values.max() + margin])
        limits[m] = ends if one.offset is None else np.exp(ends) - one.offset
    return limits.astype(np.float32)


def in_words(limits: Array) -> str:
    """(M, 2) limits in words: "brightness 41 to 190, ..."."""
    return ", ".join(
        f"{one.name} {_span(low, high)}" for one, (low, high) in zip(MEASURES, limits.tolist(), strict=True)
    )


def unusable(measured: Array, limits: Array) -> str | None:
    """Why a picture that measures (M,) cannot be judged by (M, 2) limits, in a few words; None if it can."""
    for one, value, (low, high) in zip(MEASURES, measured.tolist(), limits.tolist(), strict=True):
        if not low <= value <= high:
            what = one.too_low if value < low else one.too_high
            return f"{what}: {one.name} {value:.3g} of {_span(low, high)}"
    return None


def _span(low: float, high: float) -> str:
    return f"{max(low, 0):.3g} to {high:.3g}"
