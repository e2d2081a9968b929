"""How sharp pictures are, so that what is pasted into them can look as if the same lens had seen it."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_WINDOW = 9  # px a side, in which an edge is looked for
_STEP = 4  # px between windows
_STRONG = 0.8  # quantile: the fifth of the windows with the largest contrast counts
_SHARPEST = 0.25  # quantile of their blurs
_SLOPE, _OFFSET = 2.0, -1.13  # px, from what is measured to what it means: fitted on blurred discs and blurred noise


def edge_blur(pictures: Tensor) -> Tensor:
    """(N, C, H, W), at least 16 pixels a side -> (N,) px: by what standard deviation their sharpest edges are blurred.

    A step of height h, blurred by a Gaussian of standard deviation σ, has its steepest slope h / (σ √2π). h is taken as
    the range of levels in a window; that the window is small and other edges are near is made up for by a straight
    line. Good to about a fifth from 0.8 to 3 px; 0 where nothing is to be seen.
    """
    grey = pictures.mean(dim=1, keepdim=True)
    across = (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]) / 2
    down = (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]) / 2
    slope = _largest(torch.hypot(across, down))
    inner = grey[..., 1:-1, 1:-1]
    height = _largest(inner) + _largest(-inner)
    blur = height / (math.sqrt(2 * math.pi) * slope.clamp_min(1e-6))
    weak = height < height.quantile(_STRONG, dim=1, keepdim=True)
    sharpest = blur.masked_fill(weak, math.nan).nanquantile(_SHARPEST, dim=1)
    return (_SLOPE * sharpest + _OFFSET).clamp_min(0)


def _largest(values: Tensor) -> Tensor:
    """(N, 1, H, W) -> (N, windows)."""
    return F.max_pool2d(values, _WINDOW, _STEP).flatten(1)
