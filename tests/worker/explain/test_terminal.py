from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from quarterturn.worker.contract.bank import Bank, ScoringSettings
from quarterturn.worker.explain.explain import explain
from quarterturn.worker.explain.explanation import Box, Explanation, Standing
from quarterturn.worker.explain.terminal import histogram, page
from quarterturn.worker.explain.words import detector_in_words, figure, view_in_words, where_in_words
from tests.parts import NumpyPlacesEngine, bank_of, frame, good_part, png, scratched_part


@pytest.fixture(scope="module")
def line() -> tuple[NumpyPlacesEngine, Bank]:
    engine = NumpyPlacesEngine(logits=True)
    return engine, bank_of(engine, ("ring", "bracket"), count=60, scoring=ScoringSettings(coreset=40))


def printed(one: Explanation, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    for what in page(one):
        console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_verdict_comes_first_and_every_detector_follows(line: tuple[NumpyPlacesEngine, Bank]) -> None:
    one = explain(*line, frame(png(scratched_part(np.random.default_rng(1))), product="ring", part_id="SN-7"), 0.02)
    text = printed(one, 200)
    assert text.splitlines()[0] == one.sentence
    assert "\ncamera top-01, part SN-7; engine numpy-places, bank " in text
    of_file = printed(replace(one, camera=None, file="part 7.png", part_id=None), 200)
    assert "\nfile part 7.png; engine numpy-places, bank " in of_file
    for part in one.parts:
        assert detector_in_words(part.detector) in text
        assert f"{part.points:.2f}" in text
    for place in one.places:
        left, top, right, bottom = place.box.pixels(32, 32)
        assert f"x {left}-{right}, y {top}-{bottom}" in text
        for near in place.nearest:
            assert near.picture is not None
            assert near.picture.name in text
    assert f"As a whole from ring, seen as it lies {figure(one.views[0])}, turned 90° " in text
    assert "bracket (which it may not show)" in text
    assert f"Of 60 good pictures of ring that calibrated, {one.standing.above} score as high or higher" in text
    assert one.turning is not None
    assert f"thresholds: {{ring: {one.turning.threshold:.4g}}}" in text
    assert max(len(row) for row in printed(one).splitlines()) <= 80
    assert len(printed(one).splitlines()) < 60  # a short page


def test_measures_are_shown_where_one_lies_outside(line: tuple[NumpyPlacesEngine, Bank]) -> None:
    dark = explain(*line, frame(png(good_part(np.random.default_rng(1)) // 8), product="ring"), 0.02)
    good = explain(*line, frame(png(good_part(np.random.default_rng(1))), product="ring"), 0.02)
    assert "OUTSIDE" in printed(dark)
    assert "OUTSIDE" not in printed(good)
    assert "brightest tone" not in printed(good)


def test_what_differs_and_what_is_the_same_are_said(line: tuple[NumpyPlacesEngine, Bank]) -> None:
    one = explain(*line, frame(png(good_part(np.random.default_rng(1))), product="ring"), 0.02)
    assert "Judged again" not in printed(one)
    same = replace(one, same_score=True)
    assert f"Judged again it scores the same, {one.score:.4g}." in printed(same)
    assert (
        "WARNING: it differs" in printed(replace(one, same_score=False, notes=("WARNING: it differs",))).splitlines()[1]
    )


@pytest.mark.parametrize(
    ("score", "threshold", "marks"), [(0.0, 1.0, "^   |"), (2.0, 1.0, "    |   ^"), (9.0, 0.5, "  |     ^")]
)
def test_the_histogram_marks_threshold_and_score(score: float, threshold: float, marks: str) -> None:
    standing = Standing(7, 0, 0.1, 0.5, 1.5, (0, 0.5, 1, 1.5, 2), (4, 2, 1, 0))
    bars, found, legend = histogram(standing, score, threshold).splitlines()
    assert bars == "██▄▄▂▂  "
    assert found.rstrip() == marks
    assert legend.endswith(", beyond") == (score > 2)


def test_words() -> None:
    assert [view_in_words(view) for view in (0, 1, 3, 4, 6)] == [
        "as it lies",
        "turned 90°",
        "turned 270°",
        "mirrored",
        "mirrored and turned 180°",
    ]
    assert where_in_words(Box(0, 0, 0.1, 0.1)) == "upper left"
    assert where_in_words(Box(0.45, 0.45, 0.1, 0.1)) == "centre"
    assert where_in_words(Box(0.9, 0.4, 0.1, 0.1)) == "middle right"
    assert where_in_words(Box(0, 0, 1, 1)) == "centre"
    assert [figure(value) for value in (0.12345, 999.4, 3280.5)] == ["0.123", "999", "3,280"]
    assert Box(0.25, 0.5, 0.25, 0.5).pixels(100, 200) == (50, 50, 99, 99)
