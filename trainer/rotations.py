"""How well an encoder tells the quarter turns of each product apart, measured on pictures it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from trainer.config import DataSettings
from trainer.data import GoodParts, Pictures
from trainer.encoder import Encoder, embed_views
from worker.contract.detectors import Gaussian, Moments
from worker.contract.manifest import RotationReport
from worker.contract.views import ROTATIONS

Array = npt.NDArray[np.float32]

_BATCH = 32  # pictures embedded at once
_TOLD_APART = 0.5  # halfway between guessing (0) and certainty (1)


def measure_rotations(encoder: Encoder, parts: GoodParts, settings: DataSettings) -> dict[str, RotationReport]:
    """A report for each product: Gaussians from the pictures learned from, turns guessed on the held-out ones.

    Leaves `encoder` in evaluation mode.
    """
    reports = {}
    for product, learned, held_out in zip(parts.products, parts.learned, parts.held_out, strict=True):
        moments = Moments(ROTATIONS, dimensions=encoder.architecture.dimensions)
        moments.add(embed_turns(encoder, learned, settings))
        nearest = nearest_turns(embed_turns(encoder, held_out, settings), moments.gaussian())
        reports[product] = report(product, nearest)
    return reports


def embed_turns(encoder: Encoder, paths: Sequence[Path], settings: DataSettings) -> Array:
    """The (n, 4, D) unit-length embeddings of n pictures in their four turns; local ones as their mean."""
    with Pictures(paths, settings) as pictures:
        batches = [embed_views(encoder, frames, ROTATIONS).mean(axis=2) for frames in pictures.batches(_BATCH)]
    embeddings = np.concatenate(batches)
    return np.asarray(embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True), np.float32)


def nearest_turns(embeddings: Array, gaussians: Gaussian) -> npt.NDArray[np.intp]:
    """(n, 4, D) embeddings, a Gaussian for each of the four turns -> (n, 4) the turn whose Gaussian is nearest."""
    differences = embeddings[:, :, None] - gaussians.mean  # (n, 4 turns, 4 Gaussians, D)
    whitened = np.einsum("gij,ntgj->ntgi", gaussians.whitening, differences, optimize=True)
    nearest: npt.NDArray[np.intp] = np.linalg.norm(whitened, axis=-1).argmin(axis=-1)
    return nearest


def report(product: str, nearest: npt.NDArray[np.intp]) -> RotationReport:
    """Judge the (n, 4) guesses of n pictures in their four turns.

    The turns count as told apart if the share of right guesses is beyond halfway between guessing and certainty: 62.5%
    for one turn of four. Else, if at least the guess between upright and lying is (75%), the product looks the same
    after a half turn, and two views are enough. Else it looks the same in all turns, or comes lying in any.
    """
    errors = (nearest - np.arange(ROTATIONS)) % ROTATIONS
    right = float(np.mean(errors == 0))
    right_or_opposite = float(np.mean(errors % 2 == 0))
    measured = f"{right:.0%} of {errors.size} turned views of {len(errors)} held-out pictures were recognised"
    views: Literal[1, 2, 4]
    if _beyond_guessing(right, 1 / 4) >= _TOLD_APART:
        views, meaning = 4, "its quarter turns look different, so all four views are used"
    elif _beyond_guessing(right_or_opposite, 1 / 2) >= _TOLD_APART:
        views, meaning = 2, "it looks the same after a half turn, so two views are enough"
    else:
        views, meaning = (
            1,
            (
                "it looks the same when turned, or lies in any direction, so one view is used and a wrong orientation "
                "cannot be found"
            ),
        )
    return RotationReport(accuracy=right, views=views, sentence=f"{product}: {meaning} ({measured})")


def _beyond_guessing(share: float, guessing: float) -> float:
    return (share - guessing) / (1 - guessing)
