"""What an encoder with local embeddings learns from: crops at the scale of defects, turned, in changing light."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.config import CropSettings
from trainer.encoder import normalise_each
from trainer.paste import activity

_CELLS = 16  # of the map by which crops are placed, along a side of the frame
_MOST = 6.0  # times the mean activity: what counts as busy enough
_LEAST = 0.02  # the chance, relative to the mean, of a cell where nothing is to be seen

_GAIN = _OFFSET = 0.25  # largest changes, in standard deviations of the frame
_TILT = 0.3
_NOISE = 0.04


def draw_crops(frames: Tensor, turns: Tensor, settings: CropSettings, generator: torch.Generator) -> Tensor:
    """Cut K crops out of every frame.

    Args:
        frames: (B, 3, S, S) uint8, RGB.
        turns: (B, K) by how many quarter turns each crop is turned, as `np.rot90` does.
        settings: how large, and where.
        generator: of the CPU; the only source of randomness.

    Returns:
        (B, K, 3, s, s) float32, each frame normalised as a whole. A flip mirrors a crop before it is turned.
    """
    normalised, side = normalise_each(frames), settings.side
    corners = _corners(normalised, turns.shape[1], settings, generator).flatten(0, 1).tolist()
    flips = (torch.rand(turns.numel(), generator=generator) < settings.flip).tolist()
    crops = []
    for n, ((top, left), flip, turn) in enumerate(zip(corners, flips, turns.flatten().tolist(), strict=True)):
        crop = normalised[n // turns.shape[1], :, top : top + side, left : left + side]
        crops.append(torch.rot90(crop.flip(-1) if flip else crop, turn, dims=(-2, -1)))
    return torch.stack(crops).view(*turns.shape, *crops[0].shape)


def _corners(frames: Tensor, count: int, settings: CropSettings, generator: torch.Generator) -> Tensor:
    """(B, K, 2) top and left of `count` crops of each frame: the cell drawn lies anywhere in them."""
    side, room = frames.shape[-1], frames.shape[-1] - settings.side
    busy = activity(frames.mean(dim=1, keepdim=True), _CELLS).flatten(1).cpu()
    relative = (busy / busy.mean(dim=1, keepdim=True).clamp_min(1e-6)).clamp_max(_MOST) ** 1.5
    chances = _LEAST + (1 - settings.focus) + settings.focus * relative
    cells = torch.multinomial(chances, count, replacement=True, generator=generator)
    within, place = torch.rand(2, *cells.shape, 2, generator=generator)
    centres = (torch.stack([cells // _CELLS, cells % _CELLS], dim=-1) + within) * (side / _CELLS)
    corners: Tensor = (centres - settings.side * place).round().clamp(0, room).long()
    return corners


def relight(crops: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """(N, 3, s, s) normalised crops -> copies in other light: gain, offset, a tilt of the light, sensor noise."""
    count, side = len(crops), crops.shape[-1]
    draws = (2 * torch.rand(5, count, 1, 1, 1, generator=generator) - 1).to(crops.device) * strength
    ramp = torch.linspace(-1, 1, side, device=crops.device)
    light = _OFFSET * draws[1] + _TILT * (draws[2] * ramp.view(side, 1) + draws[3] * ramp)
    grain = torch.randn(count, 1, side, side, generator=generator).to(crops.device)
    return crops * torch.exp(_GAIN * draws[0]) + light + _NOISE * draws[4].abs() * grain
