"""Plain words for what an explanation names."""

from __future__ import annotations

from quarterturn.worker.contract.detectors import LEARNED, NEAREST, POSITION
from quarterturn.worker.contract.embeddings import FRAME
from quarterturn.worker.contract.views import ROTATIONS
from quarterturn.worker.explain.explanation import Box, Explanation

_TINY = 1e-12
_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "middle", "right")


def detector_in_words(detector: str) -> str:
    """What a detector compares with what."""
    if detector.startswith(NEAREST):
        return f"each place with the nearest good place anywhere ({detector.removeprefix(NEAREST)})"
    return {
        FRAME: "the part as a whole with good parts",
        POSITION: "each place with the same place of good parts",
        LEARNED: "each place with nothing: does it look pasted in?",
    }[detector]


def sentence(explanation: Explanation) -> str:
    """The verdict: what was found, compared with what, and where."""
    one = explanation
    scored = f"it scores {one.score:.3g}, {_times(one.score, one.threshold)} its threshold of {one.threshold:.3g}"
    if one.alert == "unusable_picture":
        return f"ALERT, unusable picture: {one.reason}; whatever it scores, {one.score:.3g} here."
    if one.alert is None:
        return f"PASSED as {one.product}: {scored}."
    if one.alert == "wrong_product":
        nearest, own = (_farness(one, product) for product in (one.looks_like, one.product))
        return (
            f"ALERT, wrong product: as a whole it looks like {one.looks_like} ({nearest} as far as the farthest good "
            f"one), not like {one.product} ({own}); {scored}."
        )
    if one.alert == "wrong_orientation" and one.orientations is not None:
        as_it_lies, *turned = one.orientations
        best = view_in_words(1 + turned.index(min(turned)))
        return (
            f"ALERT, wrong orientation: it looks like a good {one.product} {best} (distance {min(turned):.3g}, "
            f"{as_it_lies:.3g} as it lies); {scored}."
        )
    return f"ALERT, defect of {one.product}: {scored}{_most(one)}."


def _most(one: Explanation) -> str:
    """What speaks most against a part, and where."""
    most = max(one.parts, key=lambda part: part.points)
    if one.emptiness > most.points:
        return "; most of it because the picture shows less than any good part"
    where = next((f", {where_in_words(place.box)}" for place in one.places if place.detector == most.detector), "")
    return f"; {most.points / max(one.score, _TINY):.0%} of it by comparing {detector_in_words(most.detector)}{where}"


def _farness(one: Explanation, product: str) -> str:
    beside = next(beside for beside in one.products if beside.product == product)
    return _times(beside.distance, beside.limit)


def _times(value: float, unit: float) -> str:
    return f"{value / max(unit, _TINY):.2f} x"


def view_in_words(view: int) -> str:
    """How a view shows the frame."""
    turned = f"turned {90 * (view % ROTATIONS)}°" if view % ROTATIONS else ""
    mirrored = "mirrored" if view >= ROTATIONS else ""
    return " and ".join(filter(None, (mirrored, turned))) or "as it lies"


def where_in_words(box: Box) -> str:
    """In which ninth of the picture the middle of a box lies."""
    row, column = (
        names[min(2, int(3 * (start + length / 2)))]
        for names, start, length in ((_ROWS, box.top, box.height), (_COLUMNS, box.left, box.width))
    )
    return "centre" if row == column == "middle" else f"{row} {column}"
