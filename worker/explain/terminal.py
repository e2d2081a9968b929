"""An explanation for a terminal: the verdict first, then what it was compared with."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Column, Table

from quarterturn.worker.explain.explanation import Box, Explanation, GoodPlace, Standing
from quarterturn.worker.explain.sentences import standing_sentence, turning_sentences
from quarterturn.worker.explain.words import detector_in_words, view_in_words, where_in_words

_BARS = " ▁▂▃▄▅▆▇█"
_WIDE = 2  # characters of a bin
_SHORT = 12  # digits of a hash that are shown
_TINY = 1e-12


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
    if one.measures:
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
    beyond = " (beyond)" if score > high else ""
    return f"{bars}\n{''.join(marks)}  | threshold {threshold:.3g}, ^ this part {score:.3g}{beyond}"


def _frame(one: Explanation) -> str:
    part = f", part {one.part_id}" if one.part_id else ""
    return f"camera {one.camera}{part}; engine {one.engine[:_SHORT]}, bank {one.bank[:_SHORT]}"


def _parts(one: Explanation) -> Table:
    table = _table("what was compared", "distance", "evidence", "x vote", "= adds", "share")
    for part in sorted(one.parts, key=lambda part: -part.points):
        cells = (f"{part.distance:.3g}", f"{part.evidence:.2f}", f"{part.vote:.0%}")
        table.add_row(f"{part.detector}: {detector_in_words(part.detector)}", *cells, *_points(one, part.points))
    table.add_row("less to see than on any good part", "", "", "", *_points(one, one.emptiness))
    table.add_row(f"score (threshold {one.threshold:.2f})", "", "", "", *_points(one, one.score), style="bold")
    return table


def _points(one: Explanation, points: float) -> tuple[str, str]:
    return f"{points:.2f}", f"{points / max(one.score, _TINY):.0%}"


def _places(one: Explanation) -> Table:
    """Of each detector its worst place, and the good places nearest to it."""
    table = _table("worst place", "x threshold", "distance by view", "nearest good places")
    table.columns[-1].justify = "left"
    for place in one.places:
        nearest = "\n".join(_good_place(near) for near in place.nearest)
        table.add_row(
            f"{place.detector}: {where_in_words(place.box)}\n{_pixels(place.box, one)}",
            f"{place.thresholds:.2f}",
            "\n".join(f"{view_in_words(v)} {distance:.3g}" for v, distance in enumerate(place.views)),
            nearest or "none: it compares with no single good place",
        )
    return table


def _good_place(near: GoodPlace) -> str:
    seen = f"{near.distance:.3g}, {view_in_words(near.view)}"
    if near.picture is None or near.box is None:
        return f"of a good part that the bank shows no picture of ({seen})"
    return f"{near.picture.name}, {where_in_words(near.box)} ({seen})"


def _pixels(box: Box, one: Explanation) -> str:
    height, width = one.picture.shape[:2]
    left, top, right, bottom = box.pixels(height, width)
    return f"pixels {left} to {right} across, {top} to {bottom} down"


def _whole(one: Explanation) -> Table:
    """The whole frame: in each view, beside each product, and turned."""
    table = _table("the part as a whole", "distance", "farthest good one")
    for beside in one.products:
        may = "" if beside.admissible else " (which it may not show)"
        table.add_row(f"{beside.product}{may}", f"{beside.distance:.3g}", f"{beside.limit:.3g}")
    if len(one.views) > 1:
        for v, distance in enumerate(one.views):
            table.add_row(f"  {one.product}, seen {view_in_words(v)}", f"{distance:.3g}", "")
    if one.orientations is not None and one.turn_limit is not None:
        for r, distance in enumerate(one.orientations[1:], 1):
            table.add_row(f"  {one.product}, if it lay {view_in_words(r)}", f"{distance:.3g}", "")
    return table


def _measures(one: Explanation) -> Table:
    table = _table("the picture", "measured", "between", "")
    for measure in one.measures:
        limits = f"{measure.low:.3g} and {measure.high:.3g}"
        table.add_row(measure.name, f"{measure.value:.3g}", limits, "" if measure.fits else "OUTSIDE")
    return table


def _table(first: str, *others: str) -> Table:
    columns = (Column(name, justify="right") for name in others)
    return Table(first, *columns, box=SIMPLE_HEAD, pad_edge=False)
