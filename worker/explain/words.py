"""Plain words for what an explanation names."""

from __future__ import annotations

from quarterturn.worker.contract.detectors import LEARNED, NEAREST, POSITION
from quarterturn.worker.contract.embeddings import FRAME
from quarterturn.worker.contract.views import ROTATIONS
from quarterturn.worker.explain.explanation import Box

_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "middle", "right")


def detector_in_words(detector: str) -> str:
    """What a detector compares with what."""
    if detector.startswith(NEAREST):
        return f"places with the nearest good ones ({detector.removeprefix(NEAREST)})"
    return {
        FRAME: "the part as a whole with good ones",
        POSITION: "places with the same ones of good parts",
        LEARNED: "places with what was pasted in training",
    }[detector]


def figure(value: float) -> str:
    """A number with three digits, or all of those before its point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


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
