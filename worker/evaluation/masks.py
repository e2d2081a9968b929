"""Heat maps against the masks of a labelled folder: which picture has which, read only when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quarterturn.worker.contract.arrays import Array, Mask
from quarterturn.worker.contract.pictures import GOOD, TestPicture, mask_paths
from quarterturn.worker.contract.preprocess import Region, read_picture
from quarterturn.worker.evaluation import localisation
from quarterturn.worker.evaluation.figures import Localisation
from quarterturn.worker.evaluation.localisation import read_mask


def localise(data: Path, inspected: Sequence[tuple[TestPicture, Array]], region: Region | None) -> Localisation | None:
    """Compare the heat maps (h, w) of pictures with the masks that the folder `data` holds.

    Good parts count with an empty mask. None where there is no mask, or no map of more than one place.

    Args:
        data: the folder that the pictures are from.
        inspected: pictures and their heat maps.
        region: the part of each picture that was looked at.

    Raises:
        DataError: a mask cannot be read, or is not as large as its picture.
    """
    known = [
        (heat, file)
        for picture, heat in inspected
        if heat.size > 1 and (file := _mask_file(data, picture, region)) is not None
    ]
    marked = sum(bool(file.paths) for _, file in known)
    if not marked:
        return None
    maps, masks = [heat for heat, _ in known], _Masks([file for _, file in known])
    return Localisation(
        masks=marked,
        good=len(known) - marked,
        pixel_auroc=localisation.pixel_auroc(maps, masks),
        aupro=localisation.aupro(maps, masks),
        peak_in_mask=localisation.peak_in_mask(maps, masks),
    )


@dataclass(frozen=True, slots=True)
class _MaskFile:
    """The mask of a picture (height, width) of which `region` was looked at: all `paths` together, or empty."""

    paths: Sequence[Path]
    height: int
    width: int
    region: Region | None

    def read(self) -> Mask:
        mask = np.zeros((self.height, self.width), np.bool_)
        for path in self.paths:
            mask |= read_mask(path, self.height, self.width)
        seen = self.region or Region(x=0, y=0, width=self.width, height=self.height)
        return mask[seen.y : seen.y + seen.height, seen.x : seen.x + seen.width]


class _Masks(Sequence[Mask]):
    """Masks that are read whenever one is asked for: together they may be too large for the memory."""

    def __init__(self, files: Sequence[_MaskFile]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Mask:  # type: ignore[override]  # nobody takes slices
        return self._files[index].read()


def _mask_file(data: Path, picture: TestPicture, region: Region | None) -> _MaskFile | None:
    """An empty mask for a good part; None for a bad one without a mask or with nothing in it: it may be anywhere."""
    paths = [] if picture.defect == GOOD else mask_paths(data, picture)
    if not paths and picture.defect != GOOD:
        return None
    height, width, _ = read_picture(picture.path).shape
    file = _MaskFile(paths, height, width, region)
    return file if not paths or file.read().any() else None
