"""How well the quarter turns of each product are told apart, measured on pictures that training never saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from quarterturn.trainer.config import DataSettings
from quarterturn.trainer.data import GoodParts, Pictures
from quarterturn.worker.contract.arrays import Array, Frames
from quarterturn.worker.contract.gaussians import Gaussian, Moments
from quarterturn.worker.contract.manifest import RotationReport
from quarterturn.worker.contract.views import ROTATIONS

_BATCH = 16  # pictures whose features are computed at once
_MOST = 60  # pictures of a product that Gaussians are fitted to here: enough to tell turns apart by
_TOLD_APART = 0.5  # halfway between guessing (0) and certainty (1)


@dataclass(frozen=True)
class TurnFeatures:
    """Of one product the pooled features (n, 4, F) of some pictures learned from, and (m, 4, F) of held-out ones."""

    learned: Array
    held_out: Array


def turn_features(
    parts: GoodParts, settings: DataSettings, pooled: Callable[[Frames], Array]
) -> dict[str, TurnFeatures]:
    """The features of each product's pictures in their four turns; `pooled` makes them of (n, S, S, 3) frames.

    The held-out pictures are those to choose by, so that none of them calibrates.
    """

    def of(paths: Sequence[Path]) -> Array:
        with Pictures(paths, settings) as pictures:
            return np.concatenate([pooled(frames) for frames in pictures.batches(_BATCH)])

    return {
        product: TurnFeatures(of(learned[:: 1 + len(learned) // _MOST]), of(to_choose))
        for product, learned, to_choose in zip(parts.products, parts.learned, parts.to_choose, strict=True)
    }


def measure_rotations(
    features: Mapping[str, TurnFeatures], embed: Callable[[Array], Array] | None = None
) -> dict[str, RotationReport]:
    """A report for each product: Gaussians of the turns of pictures learned from, the turns of held-out ones guessed.

    By the features themselves, or by what `embed` makes of them: (n, 4, F) -> (n, 4, D).
    """
    reports = {}
    for product, found in features.items():
        learned, held_out = (one if embed is None else embed(one) for one in (found.learned, found.held_out))
        moments = Moments(ROTATIONS, dimensions=learned.shape[-1])
        moments.add(learned)
        reports[product] = report(product, nearest_turns(held_out, moments.gaussian()))
    return reports


def nearest_turns(embeddings: Array, gaussians: Gaussian) -> npt.NDArray[np.intp]:
    """(n, 4, D) embeddings, a Gaussian for each of the four turns -> (n, 4) the turn whose Gaussian is nearest."""
    by_gaussian = gaussians.distances(embeddings.reshape(-1, embeddings.shape[-1]))  # (4 Gaussians, n · 4 turns)
    return np.asarray(by_gaussian.argmin(axis=0).reshape(embeddings.shape[:2]), np.intp)


def report(product: str, nearest: npt.NDArray[np.intp]) -> RotationReport:
    """Judge the (n, 4) guesses of n pictures in their four turns.

    The turns count as told apart if the share of right guesses is beyond halfway between guessing and certainty: 62.5%
    for one turn of four. Else, if at least the guess between upright and lying is (75%), the product looks the same
    after a half turn. Else it looks the same in all turns, or comes lying in any.
    """
    errors = (nearest - np.arange(ROTATIONS)) % ROTATIONS
    right = float(np.mean(errors == 0))
    right_or_opposite = float(np.mean(errors % 2 == 0))
    measured = f"{right:.0%} of {errors.size} turned views of {len(errors)} held-out pictures were recognised"
    views: Literal[1, 2, 4]
    if _beyond_guessing(right, 1 / 4) >= _TOLD_APART:
        views, meaning = 4, "its quarter turns look different, so that a wrong orientation can be found"
    elif _beyond_guessing(right_or_opposite, 1 / 2) >= _TOLD_APART:
        views, meaning = 2, "it looks the same after a half turn"
    else:
        views, meaning = 1, "it looks the same when turned, or lies in any direction: no wrong orientation can be found"
    return RotationReport(accuracy=right, views=views, sentence=f"{product}: {meaning} ({measured})")


def _beyond_guessing(share: float, guessing: float) -> float:
    return (share - guessing) / (1 - guessing)
