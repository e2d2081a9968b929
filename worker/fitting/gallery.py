"""Which good pictures a bank shows: those that most members of its coresets come from, up to a bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from quarterturn.worker.contract.arrays import Indices, Picture
from quarterturn.worker.contract.detectors import Coreset, Normal
from quarterturn.worker.contract.gallery import Gallery, GoodPicture
from quarterturn.worker.contract.gaussians import Gaussian

MOST = 256
"""Pictures of a product that are shown; with some 4 kB each they add a sixth to a bank of all detectors."""


def with_gallery(
    normal: Normal, names: Sequence[str], read: Callable[[Sequence[int]], Iterable[Picture]]
) -> tuple[Normal, Gallery]:
    """The same good parts with their gallery, and with members that name its pictures.

    Of more pictures than `MOST` those are shown that most members come from, the earlier ones where as many do.

    Args:
        normal: what good parts of one product look like; its members count pictures as they were added to the fit.
        names: of all the pictures, in that order.
        read: those of some of the numbers, in that order.
    """
    coresets = {detector: model for detector, model in normal.items() if isinstance(model, Coreset)}
    shown = _shown([model.origins[..., 0] for model in coresets.values()])
    index = np.full(len(names) + 1, -1, np.intp)  # by number; the last is for -1
    index[shown] = np.arange(len(shown))
    gallery = tuple(GoodPicture.of(names[number], picture) for number, picture in zip(shown, read(shown), strict=True))
    renamed: dict[str, Gaussian | Coreset] = dict(normal)
    for detector, model in coresets.items():
        origins = model.origins.copy()
        origins[..., 0] = index[origins[..., 0]]
        renamed[detector] = replace(model, origins=origins)
    return renamed, gallery


def name_of(path: Path) -> str:
    """A picture's name with its folder's: the same wherever the data lies."""
    return f"{path.parent.name}/{path.name}"


def _shown(pictures: Sequence[Indices]) -> list[int]:
    if not pictures:
        return []
    numbers, members = np.unique(np.concatenate([one.ravel() for one in pictures]), return_counts=True)
    most = np.lexsort((numbers, -members))[:MOST]
    return sorted(numbers[most].tolist())
