"""An explanation as one self-contained HTML page: the part under its heat, beside good places, and every figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quarterturn.worker.contract.arrays import Array, Picture
from quarterturn.worker.contract.framing import fitted
from quarterturn.worker.contract.times import now
from quarterturn.worker.explain.explanation import Explanation, Place, Standing
from quarterturn.worker.explain.sentences import standing_sentence, turning_sentences
from quarterturn.worker.explain.words import detector_in_words, figure, view_in_words, where_in_words
from quarterturn.worker.inspection.heatmap import overlay
from quarterturn.worker.pages.page import data_uri, render, write_page

_LARGE_PX, _SMALL_PX = 960, 320  # the longer side of the pictures; twice that on the page, for fine screens


@dataclass(frozen=True)
class Shot:
    """A picture on the page, as the source of an <img>, and its size there."""

    source: str
    width: int
    height: int

    @classmethod
    def of(cls, picture: Picture, longest: int, heat: Array | None = None) -> Shot:
        """A small copy of `picture`, under `heat` if there is any."""
        small = fitted(picture, longest)
        drawn = small if heat is None else overlay(small, heat)
        return cls(data_uri(drawn), small.shape[1], small.shape[0])


@dataclass(frozen=True)
class Bars:
    """The histogram of the calibration: the height of each bar, and where the marks are, all from 0 to 1."""

    heights: tuple[float, ...]
    threshold: float
    score: float
    ends: tuple[float, float]

    @classmethod
    def of(cls, standing: Standing, score: float, threshold: float) -> Bars:
        """A score beyond the last bar is marked at its end."""
        low, high = standing.edges[0], standing.edges[-1]
        threshold, score = (min(1.0, max(0.0, (value - low) / (high - low))) for value in (threshold, score))
        most = max(standing.counts)
        return cls(tuple(count / most for count in standing.counts), threshold, score, (low, high))


def write_explanation(explanation: Explanation, path: Path, option: str = "--html") -> None:
    """Write the page to `path`, whole or not at all; `option` is what names the file on the command line.

    Raises:
        DataError: the file cannot be written.
    """
    write_page(page(explanation), path, option)


def page(one: Explanation) -> str:
    """The explanation as HTML."""
    small = Shot.of(one.picture, _SMALL_PX)
    return render(
        Path(__file__).with_name("explanation.html.j2"),
        {
            "detector": detector_in_words,
            "view": view_in_words,
            "where": where_in_words,
            "jpeg": data_uri,
            "figure": figure,
            "share": lambda points: f"{one.share(points):.0%}",
        },
        one=one,
        title=(one.alert or "passed").replace("_", " ").capitalize(),
        large=Shot.of(one.picture, _LARGE_PX),
        heated=Shot.of(one.picture, _LARGE_PX, one.heat) if one.heat.size > 1 else None,
        small=small,
        maps={part.detector: Shot.of(one.picture, _SMALL_PX, part.heat) for part in one.parts if part.heat is not None},
        parts=sorted(one.parts, key=lambda part: -part.points),
        places=sorted(one.places, key=lambda place: -_points(one, place)),
        bars=Bars.of(one.standing, one.score, one.threshold),
        standing=standing_sentence(one),
        turning=turning_sentences(one),
        made_at=now(),
    )


def _points(one: Explanation, place: Place) -> float:
    return next(part.points for part in one.parts if part.detector == place.detector)
