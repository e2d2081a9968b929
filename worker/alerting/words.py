"""A drift in plain words, and in numbers that a person knows."""

from __future__ import annotations

import math
from typing import NamedTuple

from quarterturn.worker.contract.usual import KINDS, Measures, Quantity

_MOVED = "the camera or the fixture has moved"
_SAYS: dict[Quantity, tuple[str, str]] = {
    "score": ("parts look less like good ones", "parts look more like good ones"),
    "brightness": ("pictures are brighter", "pictures are darker"),
    "sharpness": ("pictures are sharper or noisier", "pictures are less sharp"),
    "red": ("pictures are redder", "pictures are less red"),
    "blue": ("pictures are bluer", "pictures are yellower"),
    "x": ("parts lie further right", "parts lie further left"),
    "y": ("parts lie further down", "parts lie further up"),
    "turn": ("parts lie turned clockwise", "parts lie turned anticlockwise"),
    "size": ("parts look larger", "parts look smaller"),
}
"""If the quantity has risen, and if it has fallen."""


class Reading(NamedTuple):
    """What is usual and what is present, in the units of `messages.alarms.Drift`."""

    usual: float
    present: float


def reading(quantity: int, off: float, seen: Measures) -> Reading | None:
    """Of the q-th quantity that lies so many spreads off its middle; None where the product of `seen` does not tell."""
    usual = seen.usual.ranges[quantity]
    if usual is None:
        return None
    by, (width, height) = off * usual.spread, seen.size
    readings: dict[Quantity, Reading] = {
        "score": Reading(usual.middle, usual.middle + by),
        "brightness": Reading(usual.middle, usual.middle + by),
        **dict.fromkeys(("sharpness", "red", "blue"), Reading(100, 100 * math.exp(by))),
        "x": Reading(0, by * width),
        "y": Reading(0, by * height),
        "turn": Reading(0, by),
        "size": Reading(100, 100 * (1 + by)),
    }
    return readings[KINDS[quantity].name]


def in_words(quantity: int, found: Reading | None) -> str:
    """What the drift looks like, and the numbers."""
    name = KINDS[quantity].name
    if found is None:
        return f"{name} has changed"
    usual, present = found
    says = _SAYS[name][present < usual]
    if name in ("x", "y"):
        return f"{says}, by about {abs(present):.2g} px: {_MOVED}"
    if name == "turn":
        return f"{says}, by about {abs(present):.2g}°: {_MOVED}"
    if name == "size":
        return f"{says}, about {present:.3g}% of the usual size: {_MOVED} nearer or further away"
    if name in ("sharpness", "red", "blue"):
        return f"{says}: {present:.3g}% of the usual {name}"
    return f"{says}: {name} {present:.3g}, usually {usual:.3g}"
