"""Shapes and fills of synthetic defects; any shape with any fill makes a defect, in a group of crops at once.

A patch from another picture follows CutPaste (Li et al., arXiv 2104.04015), scattered pieces DRAEM's thresholded noise
(Zavrtanik et al., arXiv 2108.07610).

Crops and donors are (N, C, S, S) float32, S at least 32; their levels, and so all strengths here, are in standard
deviations of the picture. Sizes are in pixels. Ranges without a source are ours, set by looking at what comes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


class Dice:
    """Random numbers for a group of crops: drawn on the CPU, handed out on `device`."""

    def __init__(self, generator: torch.Generator, count: int, device: torch.device) -> None:
        self._generator = generator
        self._count = count
        self._device = device

    def even(self, low: float, high: float) -> Tensor:
        """(N, 1, 1, 1), each evenly from low to high."""
        return torch.empty(self._count, 1, 1, 1).uniform_(low, high, generator=self._generator).to(self._device)

    def log_even(self, low: float, high: float) -> Tensor:
        """(N, 1, 1, 1), each from low to high, its logarithm evenly."""
        return self.even(math.log(low), math.log(high)).exp()

    def coin(self) -> Tensor:
        """(N, 1, 1, 1) bool, each true half of the time."""
        return self.even(0, 1) < 0.5

    def noise(self, side: int, cells: int, channels: int = 1) -> Tensor:
        """(N, channels, side, side) smooth noise of about unit variance, with `cells` bumps a side."""
        knots = torch.randn(self._count, channels, cells + 1, cells + 1, generator=self._generator).to(self._device)
        # Of bumps a few pixels wide nobody sees that they are not smooth, and bilinear is cheaper.
        mode = "bilinear" if cells > side // 6 else "bicubic"
        return 1.4 * F.interpolate(knots, size=(side, side), mode=mode, align_corners=True)

    def group_whole(self, low: int, high: int) -> int:
        """One number for the whole group, evenly from low to high - 1."""
        return int(torch.randint(low, high, (1,), generator=self._generator))


Size = tuple[float, float]  # smallest and largest, in pixels: the side of a square, the diameter of a circle
# The dice; pixels below (N, 1, S, 1) and right of (N, 1, 1, S) the centre; the size -> (N, 1, S, S) in 0 to 1.
Shape = Callable[[Dice, Tensor, Tensor, Size], Tensor]
# The dice, crops and donors -> (N, C, S, S), to be seen where the shape is.
Fill = Callable[[Dice, Tensor, Tensor], Tensor]


def add_anomalies(
    crops: Tensor,
    donors: Tensor,
    centres: Tensor,
    *,
    shape: str,
    fill: str,
    size: Size,
    dice: Dice,
) -> Tensor:
    """Copies of the crops (N, C, S, S) with one defect each.

    Args:
        crops: (N, C, S, S) float32.
        donors: of the same shape; what a fill copies comes from them.
        centres: (N, 2) row and column of each defect, on the CPU.
        shape: of `SHAPES`.
        fill: of `FILLS`.
        size: smallest and largest, in pixels; a line is longer, a cloud spreads wider.
        dice: for N crops.
    """
    offsets = (torch.arange(crops.shape[-1]) - centres[..., None]).to(crops.device)  # (N, 2, S)
    mask = SHAPES[shape](dice, offsets[:, 0, None, :, None], offsets[:, 1, None, None, :], size)
    filled = FILLS[fill](dice, crops, donors)
    return torch.lerp(crops, filled, mask * dice.even(0.5, 1))


def smooth(pictures: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (N, C, S, S); a coarse one at half or quarter size."""
    side = pictures.shape[-1]
    if sigma >= 2 and side >= 32:
        factor = 4 if sigma >= 4 else 2
        rest = math.sqrt(sigma**2 - factor**2 / 12) / factor  # the pooling is a box of variance factor² / 12
        pooled = smooth(pool(pictures, factor), rest)
        return F.interpolate(pooled, size=pictures.shape[-2:], mode="bilinear", align_corners=False)
    radius = max(1, round(2.5 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=pictures.device) / sigma) ** 2)
    kernel /= kernel.sum()
    planes = F.pad(pictures.flatten(0, 1)[:, None], (radius,) * 4, mode="reflect")
    planes = F.conv2d(F.conv2d(planes, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return planes.view_as(pictures)


def pool(pictures: Tensor, side: int) -> Tensor:
    """The means (N, C, H / side, W / side) of squares: `avg_pool2d` in less than half of its time on a CPU."""
    box = torch.full((1, 1, side, side), 1 / side**2, device=pictures.device)
    pooled = F.conv2d(pictures.flatten(0, 1)[:, None], box, stride=side)
    return pooled.view(*pictures.shape[:2], *pooled.shape[-2:])


def rectangle(dice: Dice, rows: Tensor, columns: Tensor, size: Size) -> Tensor:
    """Turned, 1:1 to 5:1, with soft edges."""
    along, across, softness = _stretched(dice, rows, columns, size)
    return torch.sigmoid((1 - torch.maximum(along.abs(), across.abs())) / softness)


def blob(dice: Dice, rows: Tensor, columns: Tensor, size: Size) -> Tensor:
    """A turned ellipse, 1:1 to 5:1, with a rough outline."""
    along, across, softness = _stretched(dice, rows, columns, size)
    side = columns.shape[-1]
    roughness = dice.even(0, 0.5) * dice.noise(side, max(3, int(side / max(size[0], 4))))
    return torch.sigmoid((1 - torch.hypot(along, across) - roughness) / softness)


def line(dice: Dice, rows: Tensor, columns: Tensor, size: Size) -> Tensor:
    """A scratch or crack: bent, wavering, 0.8 to 4 px wide, half of them thinning out towards their ends."""
    half_length = dice.log_even(2 * size[0], 3 * size[1]) / 2
    half_width = dice.log_even(0.8, 4) / 2
    along, across = _turned(dice, rows, columns)
    across = across - dice.even(-0.5, 0.5) / half_length * along**2
    across = across + dice.even(0, 3) * dice.noise(columns.shape[-1], 8)
    along = along.abs()
    half_width = half_width * (1 - 0.8 * dice.coin() * (along / half_length).clamp_max(1))
    return torch.sigmoid((half_width - across.abs()) / 0.4) * torch.sigmoid((half_length - along) / 1.5)


def cloud(dice: Dice, rows: Tensor, columns: Tensor, size: Size) -> Tensor:
    """Irregular pieces, scattered over an ellipse of twice the size."""
    along, across, softness = _stretched(dice, rows, columns, (2 * size[0], 2 * size[1]))
    pieces = dice.noise(columns.shape[-1], dice.group_whole(6, 24)) - dice.even(0, 1)
    return torch.sigmoid((1 - torch.hypot(along, across)) / softness) * torch.sigmoid(6 * pieces)


def _stretched(dice: Dice, rows: Tensor, columns: Tensor, size: Size) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates (N, 1, S, S) in half-axes of a turned shape, and how soft an edge of 0.5 to 3 px is in them."""
    half = dice.log_even(*size) / 2
    stretch = dice.log_even(1, 5).sqrt()
    along, across = _turned(dice, rows, columns, half * stretch, half / stretch)
    softness = 0.35 * dice.log_even(0.5, 3) / (half / stretch).clamp_min(0.7)
    return along, across, softness


def _turned(
    dice: Dice, rows: Tensor, columns: Tensor, length: Tensor | float = 1, width: Tensor | float = 1
) -> tuple[Tensor, Tensor]:
    """Coordinates (N, 1, S, S) along and across a direction, in units of `length` and `width` pixels."""
    angle = dice.even(0, math.pi)
    cosine, sine = angle.cos(), angle.sin()
    along = cosine / length * columns + sine / length * rows
    across = cosine / width * rows - sine / width * columns
    return along, across


def another_place(dice: Dice, crops: Tensor, donors: Tensor) -> Tensor:
    """The donor as it is, in another light."""
    return _elsewhere(dice, donors) * dice.even(0.7, 1.3) + dice.even(-0.6, 0.6)


def shade(dice: Dice, crops: Tensor, donors: Tensor) -> Tensor:
    """Darker or brighter, with more or less of the texture beneath."""
    sign = torch.where(dice.coin(), 1.0, -1.0)
    return _faded(dice, crops) + sign * dice.log_even(0.3, 3)


def noise(dice: Dice, crops: Tensor, donors: Tensor) -> Tensor:
    """A grey texture of its own, over more or less of the one beneath."""
    side = crops.shape[-1]
    grain = dice.noise(side, dice.group_whole(side // 12, side // 2))
    return _faded(dice, crops) + (grain * dice.log_even(0.3, 2) + dice.even(-0.7, 0.7))


def _elsewhere(dice: Dice, donors: Tensor) -> Tensor:
    """The donors shifted (around the edge), turned and perhaps mirrored, so that a crop can be its own donor."""
    side = donors.shape[-1]
    shifted = donors.roll((dice.group_whole(8, side - 8), dice.group_whole(8, side - 8)), dims=(-2, -1))
    turned = shifted.rot90(dice.group_whole(0, 4), dims=(-2, -1))
    return turned.flip(-1) if dice.group_whole(0, 2) else turned


def _faded(dice: Dice, crops: Tensor) -> Tensor:
    """The crop with a random share of its texture."""
    return torch.lerp(smooth(crops, 3), crops, dice.even(0, 1))


SHAPES: dict[str, Shape] = {"rectangle": rectangle, "blob": blob, "line": line, "cloud": cloud}
FILLS: dict[str, Fill] = {
    "cut": another_place,
    "shade": shade,
    "noise": noise,
}
