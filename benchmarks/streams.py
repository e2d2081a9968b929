"""Streams of frames drawn from inspected pictures, by their measures alone: thousands of frames without an engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from quarterturn.worker.alerting.drift import DriftWatch
from quarterturn.worker.contract.usual import KINDS, Measure
from quarterturn.worker.messages.alarms import Drift
from quarterturn.worker.messages.events import Verdict
from quarterturn.worker.messages.frames import Position
from quarterturn.worker.settings.worker import DriftSettings

CLEAN, STEP, DAYS = 500, 1000, 100_000
"""Frames of a stream as it is, then of a step, and of normal days."""

_JITTER = 0.1  # spreads, from frame to frame: drawn measures are not exactly alike
WANDERS = (0.0, 0.2)
"""Spreads, up and down within a day."""

_DAY = 10_000  # frames
_DEFECTS = 0.01  # of the frames of normal days
_CAMERA = "robustness"


def drift_after(clean: Sequence[Verdict], changed: Sequence[Verdict]) -> dict[str, int]:
    """By measure, after how many frames of the step its alarm is raised; before it, a number below 1."""
    rng, watch = np.random.default_rng(1), DriftWatch()
    found: dict[str, int] = {}
    for pool, start, count in ((clean, 0, CLEAN), (changed, CLEAN, STEP)):
        for offset, measure in _alarms(watch, drawn(rng, pool, start, count)):
            found.setdefault(measure, offset - CLEAN + 1)
    return found


def normal_days(good: Sequence[Verdict], bad: Sequence[Verdict], wander: float) -> dict[str, Any]:
    """How often each measure raises an alarm in 100,000 frames, of which one in a hundred is bad.

    All measures go up and down by `wander` spreads over the day, each at its own time.
    """
    rng, watch, counts = np.random.default_rng(2), DriftWatch(), Counter[str]()
    for start in range(0, DAYS, 1000):
        frames = drawn(rng, good, start, 1000, wander)
        defects = drawn(rng, bad, start, 1000, wander)
        chosen = (two[int(rng.random() < _DEFECTS)] for two in zip(frames, defects, strict=True))
        counts.update(measure for _, measure in _alarms(watch, chosen))
    return {"wander": wander, "alarms": dict(counts)}


def drawn(
    rng: np.random.Generator, pool: Sequence[Verdict], start: int, count: int, wander: float = 0
) -> Iterator[Verdict]:
    """Frames drawn from a pool of inspected pictures, whose measures vary a little from frame to frame."""
    quantities = len(KINDS)
    for offset in range(start, start + count):
        one = pool[int(rng.integers(len(pool)))]
        seen = one.measures
        assert seen is not None  # a worker's camera is watched
        sway = wander * np.sin(2 * np.pi * (offset / _DAY + np.arange(quantities) / quantities))
        spreads = np.array([usual.spread if usual else 0.0 for usual in seen.usual.ranges])
        values = np.array(seen.values) + spreads * (sway + rng.normal(0, _JITTER, quantities))
        yield replace(one, position=Position(_CAMERA, 0, offset), measures=replace(seen, values=tuple(values.tolist())))


def _alarms(watch: DriftWatch, frames: Iterable[Verdict]) -> Iterator[tuple[int, Measure]]:
    """The offset and the measure of each alarm that is raised."""
    for one in frames:
        found, _ = watch.apply(one, DriftSettings())
        for event in found.events:
            if isinstance(event, Drift) and event.state == "raised":
                yield one.position.offset, event.measure
