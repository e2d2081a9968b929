"""Decoys: edits of good crops that no inspector would see, so that an encoder learns defects and not traces of editing.

A pasted defect breaks the sharpness and the grain of its picture. A net finds these traces long before it finds what
looks wrong, and a real defect has none of them (docs/decisions/0020-decoys.md). A decoy leaves the same traces where
nothing is wrong, and counts as good.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainer.defects import SHAPES, Dice, drop_equal_channels, smooth

_GROUPS = 8  # of crops that get the same kind of decoy in a round
_SIZE = (8.0, 64.0)  # px
_SOFTEST = 0.8  # px, standard deviation
_GRAIN = 0.06  # standard deviations of the picture


@torch.no_grad()
def add_decoys(crops: Tensor, rounds: int, generator: torch.Generator) -> Tensor:
    """Copy the crops, with `rounds` decoys in each.

    Args:
        crops: (N, 3, S, S) float32, pictures normalised to mean 0 and standard deviation 1, S at least 64.
        rounds: decoys in each crop, which may overlap.
        generator: of the CPU; the only source of randomness.

    Returns:
        (N, 3, S, S) float32 on the crops' device. A grey crop stays grey.
    """
    channels = crops.shape[1]
    edited = drop_equal_channels(crops).clone()
    for _ in range(rounds if len(crops) else 0):
        for group in edited.chunk(_GROUPS):
            group.copy_(_add_decoy(group, Dice(generator, len(group), group.device)))
    return edited.expand(-1, channels, -1, -1).contiguous()


def _add_decoy(crops: Tensor, dice: Dice) -> Tensor:
    side = crops.shape[-1]
    pixels = torch.arange(side, device=crops.device)
    rows, columns = (pixels - dice.even(0, side)[..., 0] for _ in range(2))  # (N, 1, S), from a random place
    shape = list(SHAPES.values())[dice.group_whole(0, len(SHAPES))]
    mask = shape(dice, rows[..., None], columns[:, :, None], _SIZE)
    return torch.lerp(crops, EDITS[dice.group_whole(0, len(EDITS))](dice, crops), mask)


def soften(dice: Dice, crops: Tensor) -> Tensor:
    """Less sharp than the eye can tell."""
    return smooth(crops, dice.group_log_even(0.35, _SOFTEST))


def shift(dice: Dice, crops: Tensor) -> Tensor:
    """Moved by a fraction of a pixel, as by interpolation."""
    return torch.lerp(crops, crops.roll(1, dims=-1 - dice.group_whole(0, 2)), dice.even(0.2, 0.8))


def grain(dice: Dice, crops: Tensor) -> Tensor:
    """A little noise of its own, the same in all channels."""
    return crops + _GRAIN * dice.white_noise(crops.shape[-1])


EDITS: tuple[Callable[[Dice, Tensor], Tensor], ...] = (soften, shift, grain)
