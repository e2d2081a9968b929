"""What an encoder with local embeddings learns from: crops at the scale of defects, turned, in changing light."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.augment import VIEWS
from trainer.config import CropSettings
from trainer.encoder import normalise_each
from trainer.paste import activity
from worker.contract.views import ROTATIONS

_CELLS = 16  # of the map by which crops are placed, along a side of the frame
_MOST = 6.0  # times the mean activity: what counts as busy enough
_LEAST = 0.02  # the chance, relative to the mean, of a cell where nothing is to be seen

_GAIN = _OFFSET = 0.25  # largest changes, in standard deviations of the frame
_TILT = 0.3
_NOISE = 0.04


def draw_crops(frames: Tensor, settings: CropSettings, generator: torch.Generator) -> Tensor:
    """Cut eight crops out of every frame, two for each quarter turn.

    Args:
        frames: (B, 3, S, S) uint8, RGB.
        settings: how large, and where.
        generator: of the CPU; the only source of randomness.

    Returns:
        (2, B · 4, 3, s, s) float32, each frame normalised as a whole; sample `4b + r` is cut out of frame b and turned
        by r quarter turns as `np.rot90` does. A flip mirrors the crop before it is turned.
    """
    normalised = normalise_each(frames)
    count, side = len(frames) * ROTATIONS * VIEWS, settings.side
    tops, lefts = _corners(normalised, settings, generator)
    flips = (torch.rand(count, generator=generator) < settings.flip).tolist()
    crops = []
    for n in range(count):
        sample, top, left = n % (len(frames) * ROTATIONS), int(tops[n]), int(lefts[n])
        crop = normalised[sample // ROTATIONS, :, top : top + side, left : left + side]
        crops.append(torch.rot90(crop.flip(-1) if flips[n] else crop, sample % ROTATIONS, dims=(-2, -1)))
    return torch.stack(crops).view(VIEWS, len(frames) * ROTATIONS, *crops[0].shape)


def _corners(frames: Tensor, settings: CropSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The upper left corners of all crops, view by view and sample by sample: the cell drawn lies anywhere in them."""
    side, room = frames.shape[-1], frames.shape[-1] - settings.side
    busy = activity(frames, _CELLS).flatten(1).cpu()
    relative = (busy / busy.mean(dim=1, keepdim=True).clamp_min(1e-6)).clamp_max(_MOST) ** 1.5
    chances = _LEAST + (1 - settings.focus) + settings.focus * relative
    cells = torch.multinomial(chances, VIEWS * ROTATIONS, replacement=True, generator=generator)  # (B, 8)
    cells = cells.view(len(frames), VIEWS, ROTATIONS).transpose(0, 1).flatten()
    within, place = torch.rand(2, 2, len(cells), generator=generator)
    centres = (torch.stack([cells // _CELLS, cells % _CELLS]) + within) * (side / _CELLS)
    tops, lefts = (centres - settings.side * place).round().clamp(0, room).long()
    return tops, lefts


def relight(crops: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """(N, 3, s, s) normalised crops -> copies in other light: gain, offset, a tilt of the light, sensor noise."""
    count, side = len(crops), crops.shape[-1]
    draws = (2 * torch.rand(5, count, 1, 1, 1, generator=generator) - 1).to(crops.device) * strength
    ramp = torch.linspace(-1, 1, side, device=crops.device)
    light = _OFFSET * draws[1] + _TILT * (draws[2] * ramp.view(side, 1) + draws[3] * ramp)
    grain = torch.randn(count, 1, side, side, generator=generator).to(crops.device)
    return crops * torch.exp(_GAIN * draws[0]) + light + _NOISE * draws[4].abs() * grain
