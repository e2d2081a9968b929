"""How well heat maps find the defect itself, against masks drawn by hand.

Everywhere: `maps` are one array a picture, (h, w) float32 of any grid, higher is worse, in units that compare between
pictures; `masks` one array a picture, (H, W) bool, True on the defect, all False for a good part. A map covers the
whole picture. A figure for which there is nothing to measure is None.

The figures over pixels are taken at 256 px on the longer side at most, so that a set of large pictures fits in memory:
a mask's pixel there is set where any that it stands for is; a map is enlarged bilinearly, or shrunk by averaging.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Array, Mask
from quarterturn.worker.inspection.heatmap import shrunk

LIMIT = 0.3  # the false-positive rate up to which AUPRO is integrated in the literature
_LONGEST = 256  # px


def pixel_auroc(maps: Sequence[Array], masks: Sequence[Mask]) -> float | None:
    """The probability that a pixel on a defect has more heat than one that is not, a tie counting half."""
    good, bad, _ = _pixels(maps, masks)
    return _area(good, bad, np.ones(len(bad)), limit=1.0)


def aupro(maps: Sequence[Array], masks: Sequence[Mask], limit: float = LIMIT) -> float | None:
    """The area under the per-region overlap over the false-positive rate up to `limit`, divided by `limit`.

    Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021: the overlap at a threshold is the
    share of a defect's connected region (8 neighbours) that lies at or above it, averaged over all regions, so that a
    small defect counts as much as a large one. The false-positive rate counts every pixel outside of the masks.
    """
    good, bad, sizes = _pixels(maps, masks)
    return _area(good, bad, 1 / sizes, limit)


def peak_in_mask(maps: Sequence[Array], masks: Sequence[Mask]) -> float | None:
    """The share of the defective pictures whose hottest cell touches the mask.

    That is: the cell's centre lies inside the mask, or beside it by half a cell at most, for a map cannot be more
    exact than its grid. The first of equally hot cells counts. Masks are taken at their full size.
    """
    hits = [_peak_touches(heat, mask) for heat, mask in zip(maps, masks, strict=True) if mask.any()]
    return sum(hits) / len(hits) if hits else None


def _peak_touches(heat: Array, mask: Mask) -> bool:
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    touched = mask[_span(int(row), heat.shape[0], mask.shape[0]), _span(int(column), heat.shape[1], mask.shape[1])]
    return bool(touched.any())


def _span(cell: int, cells: int, pixels: int) -> slice:
    """The pixels that a cell covers, also in part."""
    return slice(cell * pixels // cells, -(-(cell + 1) * pixels // cells))


def _pixels(maps: Sequence[Array], masks: Sequence[Mask]) -> tuple[Array, Array, npt.NDArray[np.float64]]:
    """The heat of all pixels outside of the masks; of all inside; and for each of these the size of its region."""
    good, bad, sizes = [np.empty(0, np.float32)], [np.empty(0, np.float32)], [np.empty(0)]
    for full_map, full_mask in zip(maps, masks, strict=True):
        mask = shrunk(full_mask, _LONGEST)
        heat = _resized(full_map, *mask.shape)
        regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1][mask]
        good.append(heat[~mask])
        bad.append(heat[mask])
        sizes.append(np.bincount(regions)[regions].astype(np.float64))
    return np.concatenate(good), np.concatenate(bad), np.concatenate(sizes)


def _resized(heat: Array, height: int, width: int) -> Array:
    """In two steps, as OpenCV averages areas only where both sides shrink."""
    fewer = (min(heat.shape[1], width), min(heat.shape[0], height))
    averaged = cv2.resize(heat, fewer, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(averaged, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _area(good: Array, bad: Array, weights: npt.NDArray[np.float64], limit: float) -> float | None:
    """The area under the weighted share of `bad` at or above a threshold over the share of `good`, up to `limit`.

    Between two values of `bad` the curve runs level, and at one that `good` has too it slants: its corners are the
    shares from just above and from just at each value of `bad`, and nothing has to be sorted but the values.
    """
    if not len(good) or not len(bad):
        return None
    good = np.sort(good)
    values, which = np.unique(bad, return_inverse=True)
    caught = np.cumsum(np.bincount(which, weights)[::-1]) / weights.sum()
    falling = values[::-1]
    above = 1 - np.searchsorted(good, falling, side="right") / len(good)
    at = 1 - np.searchsorted(good, falling, side="left") / len(good)
    rates = np.concatenate([[0.0], np.stack([above, at], axis=1).ravel(), [1.0]])
    shares = np.concatenate([[0.0], np.stack([np.r_[0.0, caught[:-1]], caught], axis=1).ravel(), [1.0]])
    return _integral(rates, shares, limit) / limit


def _integral(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], limit: float) -> float:
    """The trapezoids under (x, y), x rising from 0 to 1, up to `limit`."""
    last = int(np.searchsorted(x, limit, side="left"))
    slope = (y[last] - y[last - 1]) / (x[last] - x[last - 1])
    x = np.append(x[:last], limit)
    y = np.append(y[:last], y[last - 1] + slope * (limit - x[last - 1]))
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
