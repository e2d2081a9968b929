"""Anomalies pasted into frames of good parts, in other light, and where they can be seen: what the head learns from.

The kinds are in `anomalies.py`. Here: how many, which and where.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from quarterturn.trainer.anomalies import Dice, add_anomalies, pool
from quarterturn.trainer.config import PasteSettings

_KINDS = {  # a shape and a fill, and how often they come
    ("rectangle", "cut"): 1.0,
    ("blob", "cut"): 1.0,
    ("line", "cut"): 0.5,
    ("cloud", "cut"): 0.5,
    ("blob", "shade"): 1.0,
    ("line", "shade"): 1.5,
    ("cloud", "shade"): 1.0,
    ("blob", "noise"): 0.7,
    ("line", "noise"): 0.5,
    ("cloud", "noise"): 0.5,
}

_GROUPS = 8  # of crops that get the same kind of defect in a round: enough variety in a batch, and few enough calls
_CELLS = 16  # a side, in which places are drawn
_WINDOW = 64  # px; most defects are small and computed in a window only, at a quarter of a 128 px crop's cost
_WINDOWED_FROM = 4 * _WINDOW // 3  # px of a crop's side; in a smaller one a window saves little
_WINDOW_SHARE = 0.75  # of the groups
_WINDOW_LARGEST = 0.4 * _WINDOW  # px, for a defect that shall fit
_FOCUS = 0.95  # how often a place is drawn by what is to be seen there, not evenly
_GAIN = _OFFSET = 0.25  # largest changes of the light, in standard deviations of the picture
_TILT = 0.3
_NOISE = 0.04
_RIM = 4  # px over which a defect fades out towards the window's edge

_TEXTURE_WIDTH = 9  # half-resolution pixels; what is coarser is the picture's structure, not its texture
_TEXTURE_GAIN = 1.5  # a change counts as visible against the mean local contrast times this
_SEEN = 0.35  # of that, the change of a visible defect
_UNSEEN = 0.1  # and what is no change
_LEAST_CHANGE = 0.05  # standard deviations: visible where there is no texture at all


@torch.no_grad()
def paste(crops: Tensor, settings: PasteSettings, generator: torch.Generator) -> Tensor:
    """Copy the crops, with defects in all of them.

    Args:
        crops: (N, 3, S, S) float32, pictures normalised to mean 0 and standard deviation 1; S is 32 or more, a multiple
            of 8. Grey ones have three equal channels.
        settings: how many, and how large.
        generator: of the CPU; the only source of randomness.

    Returns:
        (N, 3, S, S) float32 on the crops' device, a copy the caller keeps. Each crop has `rounds` defects, which may
        overlap. A grey crop stays grey unless something is copied into it from a colour one.
    """
    count, channels = crops.shape[:2]
    crops = _drop_equal_channels(crops)
    pasted = crops.clone()
    for _ in range(settings.rounds if count else 0):
        step = int(torch.randint(1, max(count, 2), (1,), generator=generator))
        donors = crops.roll(-step, dims=0)  # another crop, or the only one
        centres = _draw_centres(pasted, generator)
        groups = zip(pasted.chunk(_GROUPS), donors.chunk(_GROUPS), centres.chunk(_GROUPS), strict=True)
        for some, their_donors, their_centres in groups:
            _paste_group(some, their_donors, their_centres, settings, generator)
    return pasted.expand(-1, channels, -1, -1).contiguous()


def relight(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 3, S, S) normalised pictures -> copies in other light: gain, offset, a tilt of the light, sensor noise."""
    count, side = len(pictures), pictures.shape[-1]
    draws = (2 * torch.rand(5, count, 1, 1, 1, generator=generator) - 1).to(pictures.device)
    ramp = torch.linspace(-1, 1, side, device=pictures.device)
    light = _OFFSET * draws[1] + _TILT * (draws[2] * ramp.view(side, 1) + draws[3] * ramp)
    grain = torch.randn(count, 1, side, side, generator=generator).to(pictures.device)
    return pictures * torch.exp(_GAIN * draws[0]) + light + _NOISE * draws[4].abs() * grain


def visible(before: Tensor, after: Tensor, cell: int) -> Tensor:
    """Where a change can be seen, cell by cell.

    At half resolution, the largest change in a cell is compared with the contrast of the texture around it.

    Args:
        before: (N, 3, S, S) float32, S a multiple of 8.
        after: the same with defects.
        cell: pixels a side, even, a divisor of S.

    Returns:
        (N, S / cell, S / cell) float32: 1 where the change is visible against the local texture, 0 where there is
        none, -1 between, for the loss to ignore.
    """
    change = pool((after - before).abs().mean(dim=1, keepdim=True), 2)
    grey = pool(before.mean(dim=1, keepdim=True), 2)
    texture = _TEXTURE_GAIN * _mean_around(pool((grey - _mean_around(grey, _TEXTURE_WIDTH)).abs(), 4), 3)
    texture = F.interpolate(texture, size=change.shape[-2:], mode="bilinear", align_corners=False)
    contrast = F.max_pool2d(change / (texture + _LEAST_CHANGE / _SEEN), cell // 2)[:, 0]
    ignored = torch.full_like(contrast, -1)
    return ignored.masked_fill(contrast >= _SEEN, 1).masked_fill(contrast < _UNSEEN, 0)


def activity(crops: Tensor, cells: int) -> Tensor:
    """(N, C, H, W) -> (N, cells, cells), at least 0: where something is to be seen, spread to the cells beside it.

    The mean difference from the surrounding 10 x 10 pixels, in the units of the crops.
    """
    halved = pool(crops, 2)
    detail = (halved - _mean_around(halved, 5)).abs().mean(dim=1, keepdim=True)
    energy = F.pad(F.adaptive_avg_pool2d(detail, cells), (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(energy, 3, 1)[:, 0]


def _drop_equal_channels(crops: Tensor) -> Tensor:
    """(N, C, S, S) -> (N, 1, S, S) if all crops are grey, which is a part of the work; else the crops themselves."""
    first, *others = crops.unbind(dim=1)
    return crops[:, :1] if all(torch.equal(first, other) for other in others) else crops


def _mean_around(pictures: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(pictures, side, 1, side // 2, count_include_pad=False)


def _draw_centres(crops: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 2) row and column of a place in each crop, in pixels, on the CPU: likelier where there is something."""
    count, side = len(crops), crops.shape[-1]
    energy = activity(crops, _CELLS).flatten(1).cpu()
    energy = energy / energy.mean(dim=1, keepdim=True).clamp_min(1e-6)
    # The limit keeps one bright edge from drawing all; the 0.02 lets flat places come up at all.
    likelihood = 0.02 + (1 - _FOCUS) + _FOCUS * energy.clamp_max(6) ** 1.5
    cell = torch.multinomial(likelihood, 1, generator=generator)[:, 0]
    corners = torch.stack([cell // _CELLS, cell % _CELLS], dim=1)
    return (corners + torch.rand(count, 2, generator=generator)) * side / _CELLS


def _paste_group(
    crops: Tensor,
    donors: Tensor,
    centres: Tensor,
    settings: PasteSettings,
    generator: torch.Generator,
) -> None:
    """Add one defect to each crop of a group, in place: of one kind, mostly small and then within a window."""
    side = crops.shape[-1]
    shape, fill = _draw_kind(generator)
    smallest, largest = settings.size
    extent = side
    fits = side >= _WINDOWED_FROM and smallest <= _WINDOW_LARGEST
    if fits and float(torch.rand(1, generator=generator)) < _WINDOW_SHARE:
        extent, largest = _WINDOW, min(largest, _WINDOW_LARGEST)
    inside = 0.25 + 0.5 * torch.rand(centres.shape, generator=generator)  # where in its window a defect is
    corners = (centres - extent * inside).round().clamp(0, side - extent)
    others = torch.randint(0, side - extent + 1, centres.shape, generator=generator)
    views = _windows(crops, corners, extent)
    before = torch.stack(views)
    dice = Dice(generator, len(crops), crops.device)
    donated = torch.stack(_windows(donors, others, extent))
    size = (smallest, largest)
    after = add_anomalies(before, donated, centres - corners, shape=shape, fill=fill, size=size, dice=dice)
    if extent < side:
        after = torch.lerp(before, after, _fading(extent).to(crops.device))
    for view, picture in zip(views, after, strict=True):
        view.copy_(picture)


def _draw_kind(generator: torch.Generator) -> tuple[str, str]:
    number = torch.multinomial(torch.tensor(list(_KINDS.values())), 1, generator=generator)
    return list(_KINDS)[int(number)]


def _windows(crops: Tensor, corners: Tensor, extent: int) -> list[Tensor]:
    """Views (C, extent, extent) of each crop, from the row and column in `corners` (N, 2) on."""
    places = corners.int().tolist()
    return [crop[:, top : top + extent, left : left + extent] for crop, (top, left) in zip(crops, places, strict=True)]


def _fading(extent: int) -> Tensor:
    """(extent, extent): 1, but from 1 to 0 over the last pixels before the edge."""
    pixels = torch.arange(extent)
    ramp = torch.minimum(pixels, extent - 1 - pixels).clamp_max(_RIM) / _RIM
    return ramp[:, None] * ramp
