"""Augmentation of a whole batch on the device: one resampling for crop and flip, one matrix a view for the colours.

Drawn as in SimCLR (Chen et al., arXiv 2002.05709, appendix A). Going through HSV pixel by pixel, as general libraries
do, takes more than a third of a small encoder's training step on a CPU; here every colour change is linear in RGB, so
that all of them together are one 3x4 matrix.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from quarterturn.trainer.config import AugmentSettings
from quarterturn.worker.contract.views import ROTATIONS

_LOG_RATIO = math.log(4 / 3)  # a crop is at most 4:3 or 3:4
_GREY = torch.tensor([0.299, 0.587, 0.114])  # BT.601 luma
_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def augment(
    frames: Tensor, settings: AugmentSettings, generator: torch.Generator, views: int = 2, side: int | None = None
) -> Tensor:
    """Make views to learn from: every picture, cropped, mirrored, coloured anew and turned.

    Args:
        frames: (B, 3, S, S) uint8, RGB.
        settings: how strongly.
        generator: of the CPU; the only source of randomness.
        views: A, of each turn of each frame.
        side: S', of the views in pixels; None: as that of the frames.

    Returns:
        (A, B · 4, 3, S', S') float32 in 0 to 255; sample `4b + r` is frame b turned by r quarter turns as `np.rot90`
        does. All are drawn independently. A flip mirrors the frame before it is turned.
    """
    batch, channels, own, _ = frames.shape
    side = side or own
    count = views * batch * ROTATIONS
    places = draw_crops(count, settings, generator).to(frames.device)
    colours, offsets = draw_colours(count, settings, generator)
    each = frames.float()[None, :, None].expand(views, batch, ROTATIONS, channels, own, own)
    sources = each.reshape(count, channels, own, own)
    grid = F.affine_grid(places, [count, channels, side, side], align_corners=False)
    seen = F.grid_sample(sources, grid, padding_mode="border", align_corners=False)
    seen = recolour(seen, colours.to(frames.device), offsets.to(frames.device))
    turns = seen.view(views * batch, ROTATIONS, channels, side, side).unbind(dim=1)
    turned = torch.stack([torch.rot90(turn, r, dims=(-2, -1)) for r, turn in enumerate(turns)], dim=1)
    return turned.reshape(views, batch * ROTATIONS, channels, side, side)


def draw_crops(count: int, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """(count, 2, 3) affine maps from the corners of a view to the corners of its crop, for `affine_grid`.

    The crop's share of the area is even in `crop`, its ratio log-even between 3:4 and 4:3, narrowed where a crop of
    that area would not fit.
    """
    area, ratio, x, y, flip = torch.rand(5, count, generator=generator)
    smallest, largest = settings.crop
    area = smallest + (largest - smallest) * area
    ratio = torch.exp((2 * ratio - 1) * _LOG_RATIO).clamp(area, 1 / area)
    width, height = (area * ratio).sqrt(), (area / ratio).sqrt()
    maps = torch.zeros(count, 2, 3)
    maps[:, 0, 0] = torch.where(flip < settings.flip, -width, width)
    maps[:, 1, 1] = height
    maps[:, 0, 2] = (2 * x - 1) * (1 - width)
    maps[:, 1, 2] = (2 * y - 1) * (1 - height)
    return maps


def draw_colours(count: int, settings: AugmentSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(count, 3, 3) colour matrices and (count,) contrast shifts, for `recolour`.

    Brightness, contrast and saturation are scaled by up to 0.8 · jitter, the hue turned by up to 0.2 · jitter of the
    circle (in YIQ, where that is a rotation), with the chance `jitter_share`; colours are dropped with the chance
    `grey`.
    """
    draws = torch.rand(6, count, generator=generator)
    strength = settings.jitter * (draws[4] < settings.jitter_share)
    brightness, contrast, saturation = 1 + 0.8 * strength * (2 * draws[:3] - 1)
    saturation = saturation.masked_fill(draws[5] < settings.grey, 0)
    angle = 2 * math.pi * 0.2 * strength * (2 * draws[3] - 1)
    matrices = torch.zeros(count, 3, 3)  # in YIQ: luma is kept, chroma is scaled and turned
    matrices[:, 0, 0] = 1
    matrices[:, 1, 1] = matrices[:, 2, 2] = saturation * angle.cos()
    matrices[:, 2, 1] = saturation * angle.sin()
    matrices[:, 1, 2] = -matrices[:, 2, 1]
    matrices = torch.linalg.inv(_TO_YIQ) @ matrices @ _TO_YIQ
    return matrices * (brightness * contrast)[:, None, None], brightness * (1 - contrast)


def recolour(views: Tensor, matrices: Tensor, offsets: Tensor) -> Tensor:
    """Multiply each pixel's RGB with its view's matrix and add `offset` times the view's mean grey; cut to 0 to 255."""
    pixels = views.flatten(2)  # (N, 3, S · S)
    mean_grey = _GREY.to(views.device) @ pixels.mean(dim=2).T
    shifts = (offsets * mean_grey)[:, None, None]
    return torch.baddbmm(shifts, matrices, pixels).clamp_(0, 255).view_as(views)
