"""How well an encoder tells the quarter turns of each product apart, measured on pictures it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from trainer.config import DataSettings
from trainer.data import GoodParts, Pictures
from trainer.encoder import Encoder, normalise
from worker.contract.bank import fit_gaussians
from worker.contract.manifest import RotationReport
from worker.contract.views import ROTATIONS

Array = npt.NDArray[np.float32]

_BATCH = 32  # pictures embedded at once
_TOLD_APART = 0.5  # halfway between guessing (0) and certainty (1)


def measure_rotations(encoder: Encoder, parts: GoodParts, settings: DataSettings) -> dict[str, RotationReport]:
    """A report for each product: Gaussians from the pictures learned from, turns guessed on the held-out ones.

    Leaves `encoder` in evaluation mode.
    """
    learned = tuple(embed_turns(encoder, paths, settings) for paths in parts.learned)
    held_out = (embed_turns(encoder, paths, settings) for paths in parts.held_out)
    gaussians = fit_gaussians(learned)
    return {
        product: report(product, nearest_turns(embeddings, mean, whitening))
        for product, embeddings, mean, whitening in zip(
            parts.products, held_out, gaussians.mean[:, :, 0], gaussians.whitening[:, :, 0], strict=True
        )
    }


@torch.inference_mode()
def embed_turns(encoder: Encoder, paths: Sequence[Path], settings: DataSettings) -> Array:
    """The (n, 4, 1, D) unit-length embeddings of the four turns of n pictures."""
    encoder.eval()
    device = next(encoder.parameters()).device
    batches = []
    with Pictures(paths, settings) as pictures:
        for _, frames in pictures.stream(np.array_split(np.arange(len(paths)), -(-len(paths) // _BATCH))):
            upright = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2)
            turned = torch.stack([torch.rot90(upright, r, dims=(-2, -1)) for r in range(ROTATIONS)], dim=1)
            projections = encoder(normalise(turned.flatten(0, 1)).contiguous(memory_format=torch.channels_last))
            batches.append(F.normalize(projections, dim=1).view(len(frames), ROTATIONS, 1, -1).cpu().numpy())
    return np.concatenate(batches)


def nearest_turns(embeddings: Array, mean: Array, whitening: Array) -> npt.NDArray[np.intp]:
    """(n, 4, 1, D) embeddings, (4, D) means, (4, D, D) whitening -> (n, 4) the turn whose Gaussian is nearest."""
    differences = embeddings - mean  # (n, 4 turns, 4 Gaussians, D)
    whitened = np.einsum("gij,ntgj->ntgi", whitening, differences, optimize=True)
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
