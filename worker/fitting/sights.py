"""What the good pictures of a bank are and measure, before any engine: for the picture guard, and to compare with."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.framing import Framing, cut
from quarterturn.worker.contract.guard import limits_of, measure, unusable
from quarterturn.worker.contract.picture import Decoded
from quarterturn.worker.contract.registration import Small, small_picture
from quarterturn.worker.contract.traits import Traits

log = logging.getLogger(__name__)

_NAMED = 5  # pictures; a folder of bad ones would fill the screen


@dataclass(frozen=True, slots=True)
class Sight:
    """What one picture is, the (M,) that it measures, and a small copy of it that shows how it lies."""

    traits: Traits
    measured: Array
    small: Small

    @classmethod
    def of(cls, seen: Decoded, framing: Framing) -> Sight:
        """That of a decoded picture, as a worker would see it."""
        frames, layout = cut(seen.pixels, framing)
        return cls(Traits.of(seen, frames), measure(frames), small_picture(frames, layout))


def guard_of(sights: Iterable[Sight]) -> Array:
    """(M, 2) what a picture may measure beside these good ones."""
    return limits_of(np.stack([sight.measured for sight in sights]))


def tell_unusable(sights: Mapping[Path, Sight], paths: Sequence[Path], guard: Array) -> None:
    """Name those calibration pictures that the guard would stop: each is a good part rejected, beside the promise."""
    reasons = {path: reason for path in paths if (reason := unusable(sights[path].measured, guard))}
    for path, reason in list(reasons.items())[:_NAMED]:
        log.warning("%s: a good picture, but unusable beside those that the bank learned from (%s)", path, reason)
    if reasons:
        log.warning(
            "%d of %d calibration pictures are unusable so: take them out, or add more like them",
            len(reasons),
            len(paths),
        )
