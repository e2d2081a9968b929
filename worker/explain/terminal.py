"""An explanation for a terminal: the verdict first, then what it was compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Column, Table

from quarterturn.worker.contract.manifest import short
from quarterturn.worker.explain.explanation import Explanation, GoodPlace, Standing
from quarterturn.worker.explain.sentences import standing_sentence, turning_sentences
from quarterturn.worker.explain.words import detector_in_words, figure, view_in_words, where_in_words

_BARS = " ▁▂▃▄▅▆▇█"
_WIDE = 2  # characters of a bin
_STYLE: dict[str, Any] = {"box": SIMPLE_HEAD, "pad_edge": False}


def page(one: Explanation) -> Iterator[RenderableType]:
    """What to print, in order."""
    yield one.sentence
    yield from one.notes
    if one.same_score:
        yield f"Judged again it scores the same, {one.score:.4g}."
    yield _frame(one)
    yield _parts(one)
    if one.places:
        yield _places(one)
    yield _whole(one)
    yield from _views(one)
    if not all(measure.fits for measure in one.measures):
        yield _measures(one)
    yield standing_sentence(one)
    yield histogram(one.standing, one.score, one.threshold)
    yield from turning_sentences(one)


def histogram(standing: Standing, score: float, threshold: float) -> str:
    """The calibration's scores as bars, above a mark at the threshold and one at the score."""
    most = max(standing.counts)
    bars = "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] * _WIDE for count in standing.counts)
    low, high = standing.edges[0], standing.edges[-1]
    marks = [" "] * (len(bars) + 1)
    for value, mark in ((threshold, "|"), (score, "^")):
        marks[max(0, min(len(bars), int((value - low) / (high - low) * len(bars))))] = mark
    beyond = ", beyond" if score > high else ""
    return f"{bars}\n{''.join(marks)}\n| threshold {figure(threshold)}   ^ this part {figure(score)}{beyond}"


def _frame(one: Explanation) -> str:
    said = {"file": one.file, "camera": one.camera, "part": one.part_id}
    shown = ", ".join(f"{name} {value}" for name, value in said.items() if value)
    return f"{shown}; engine {short(one.engine)}, bank {short(one.bank)}"


def _parts(one: Explanation) -> Table:
    table = _table("compared", "evidence", "x vote", "= adds", "share")
    for part in sorted(one.parts, key=lambda part: -part.points):
        cells = (f"{part.evidence:.2f}", f"{part.vote:.0%}", *_points(one, part.points))
        table.add_row(detector_in_words(part.detector), *cells)
    table.add_row("less to see than on any good part", "", "", *_points(one, one.emptiness))
    table.add_row(f"score (threshold {one.threshold:.2f})", "", "", *_points(one, one.score), style="bold")
    return table


def _points(one: Explanation, points: float) -> tuple[str, str]:
    return f"{points:.2f}", f"{one.share(points):.0%}"


def _places(one: Explanation) -> Table:
    """Of each detector its worst place, and the good places nearest to it."""
    table = Table("worst place", Column("x threshold", justify="right"), "nearest good places: distance", **_STYLE)
    for place in one.places:
        nearest = "\n".join(_good_place(near) for near in place.nearest)
        left, top, right, bottom = place.box.pixels(*one.picture.shape[:2])
        where = f"{where_in_words(place.box)}: x {left}-{right}, y {top}-{bottom}"
        table.add_row(f"{place.detector}\n{where}", f"{place.thresholds:.2f}", nearest or "compares with no single one")
    return table


def _good_place(near: GoodPlace) -> str:
    if near.picture is None or near.box is None:
        return f"of a picture that the bank does not show: {figure(near.distance)}"
    return f"{near.picture.name}, {where_in_words(near.box)}: {figure(near.distance)}"


def _whole(one: Explanation) -> Table:
    table = _table("the part as a whole", "distance", "farthest good one")
    for beside in one.products:
        may = "" if beside.admissible else " (which it may not show)"
        table.add_row(f"{beside.product}{may}", figure(beside.distance), figure(beside.limit))
    return table


def _views(one: Explanation) -> Iterator[str]:
    """The distances of the whole frame, in one line each: as it is seen, and as it would be if it lay turned."""
    if len(one.views) > 1:
        yield f"As a whole from {one.product}, seen {_listed(enumerate(one.views))}."
    if one.orientations is not None and one.turn_limit is not None:
        yield f"If it lay otherwise: {_listed(list(enumerate(one.orientations))[1:])}."


def _listed(distances: Iterable[tuple[int, float]]) -> str:
    return ", ".join(f"{view_in_words(view)} {figure(distance)}" for view, distance in distances)


def _measures(one: Explanation) -> Table:
    table = _table("the picture", "measured", "between", "")
    for measure in one.measures:
        limits = f"{figure(max(measure.low, 0))} and {figure(measure.high)}"
        table.add_row(measure.name, figure(measure.value), limits, "" if measure.fits else "OUTSIDE")
    return table


def _table(first: str, *others: str) -> Table:
    columns = (Column(name, justify="right") for name in others)
    return Table(first, *columns, **_STYLE)
