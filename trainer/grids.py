"""Grids of places: which ones a frame's side and framing allow, and maps laid onto them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from torch import Tensor
from torch.nn import functional as F

from quarterturn.trainer.backbone import resize_map
from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.framing import UNITS, Framing


def require_division(where: str, side: int, stride: int) -> None:
    """Refuse places of `stride` px that do not divide a frame of `side` px.

    Raises:
        ConfigError: begins with `where`, and names a side that would do.
    """
    if side % stride or side < stride:
        step = math.lcm(stride, UNITS)
        nearest = _nearest((step * times for times in range(1, side // step + 2)), side)
        raise ConfigError(
            f"{where}: frames of {side} px cannot be divided into places of {stride} px; set 'data.side' to {nearest}"
        )


def require_framing(grids: Mapping[str, int], framing: Framing) -> None:
    """Refuse a framing by which places on `grids`, by the names of their settings, cannot be put together.

    Raises:
        ConfigError: names the setting, and a side that would do.
    """
    for where, grid in grids.items():
        if not framing.takes(grid):
            stride = framing.side // grid
            sides = (stride * places for places in (4, 8, 16, 32, 48, 64) if stride * places % UNITS == 0)
            raise ConfigError(
                f"{where}: with fit '{framing.fit}' frames of {framing.side} px cannot have {grid} x {grid} places; "
                f"set 'data.side' to {_nearest(sides, framing.side)}, or 'data.fit' to 'stretch'"
            )


def on_grid(maps: Tensor, side: int, grid: int) -> Tensor:
    """(N, C, side, side) -> (N, C, grid, grid): averaged where `grid` divides `side`, else interpolated."""
    if side % grid == 0:
        return F.avg_pool2d(maps, side // grid) if side > grid else maps
    return resize_map(maps, grid / side)


def _nearest(sides: Iterable[int], side: int) -> int:
    return min(sides, key=lambda fitting: abs(fitting - side))
