"""The masks of a labelled folder: which picture has which, what is wrong with them, and heat maps against them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from quarterturn.worker.contract.arrays import Array, Mask
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.evaluation import localisation
from quarterturn.worker.evaluation.mask_files import read_mask
from quarterturn.worker.evaluation.result import Localisation
from quarterturn.worker.pictures.folder_names import MASKS, word_of
from quarterturn.worker.pictures.folders import folders_in, holds_pictures, list_pictures
from quarterturn.worker.pictures.read import read_picture
from quarterturn.worker.pictures.sets import GOOD, TestPicture, mask_paths

_NAMED = 3  # files that a sentence names; of the others it tells how many there are

_FAULTS = {
    "lost": "masks that belong to no test picture, so call each like its picture",
    "missing": "bad pictures without a mask, though others have one",
    "unusable": "masks that cannot be used",
    "black": "masks that are all black, though their pictures count as bad",
    "outside": "masks that show nothing in the region that is looked at",
    "of good": "masks that are not black, though their pictures count as good",
}


@dataclass(frozen=True, slots=True)
class PictureMask:
    """The mask of a picture (height, width) of which `region` was looked at: all `paths` together, or empty."""

    paths: Sequence[Path]
    height: int
    width: int
    region: Region | None

    def read(self) -> Mask:
        """(h, w) bool: the mask within the region.

        Raises:
            DataError: a file cannot be used.
        """
        return _cut(self.whole(), self.region)

    def whole(self) -> Mask:
        """(height, width) bool.

        Raises:
            DataError: a file cannot be used.
        """
        mask = np.zeros((self.height, self.width), np.bool_)
        for path in self.paths:
            mask |= read_mask(path, self.height, self.width)
        return mask


@dataclass(frozen=True)
class Masks:
    """What is known of test pictures: `known` holds the masks of bad ones, and empty ones of good ones, by picture.

    A bad one is not in it without a mask that shows something: its defect may be anywhere. `faults` says in words what
    is wrong with masks.
    """

    known: dict[Path, PictureMask] = field(default_factory=dict)
    faults: Sequence[str] = ()


def find_masks(data: Path, pictures: Sequence[TestPicture], region: Region | None) -> Masks:
    """The masks that the folder `data` holds for its test pictures, of which `region` is looked at."""
    files = {picture.path: mask_paths(data, picture) for picture in pictures}
    used = {path for paths in files.values() for path in paths}
    lost = [path for path in _in_folders_of_masks(data) if path not in used]
    if not used and not lost:
        return Masks()
    known: dict[Path, PictureMask] = {}
    faults: dict[str, list[str]] = {kind: [] for kind in _FAULTS}
    faults["lost"] = [_name(path, data) for path in lost]
    for picture in pictures:
        try:
            height, width, _ = read_picture(picture.path).shape
        except DataError:
            continue  # it is listed among those that could not be inspected
        mask = PictureMask(files[picture.path], height, width, region)
        try:
            fault = _fault(mask, picture.defect == GOOD)
        except DataError as error:
            faults["unusable"].append(str(error).removeprefix(f"{data}/"))
            continue
        if fault:
            faults[fault].append(_name(next(iter(mask.paths), picture.path), data))
        if picture.defect == GOOD:
            known[picture.path] = replace(mask, paths=())
        elif not fault:
            known[picture.path] = mask
    return Masks(known, [_sentence(kind, names) for kind, names in faults.items() if names])


def localise(inspected: Sequence[tuple[Array, PictureMask]]) -> Localisation | None:
    """Compare heat maps (h, w) of more than one place with the masks of their pictures; None where no mask shows any.

    Raises:
        DataError: a mask cannot be read any more.
    """
    marked = sum(bool(mask.paths) for _, mask in inspected)
    if not marked:
        return None
    maps, masks = [heat for heat, _ in inspected], _Read([mask for _, mask in inspected])
    return Localisation(
        masks=marked,
        good=len(inspected) - marked,
        pixel_auroc=localisation.pixel_auroc(maps, masks),
        aupro=localisation.aupro(maps, masks),
        peak_in_mask=localisation.peak_in_mask(maps, masks),
    )


class _Read(Sequence[Mask]):
    """Masks that are read whenever one is asked for: together they may be too large for the memory."""

    def __init__(self, masks: Sequence[PictureMask]) -> None:
        self._masks = masks

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, index: int) -> Mask:  # type: ignore[override]  # nobody takes slices
        return self._masks[index].read()


def _fault(mask: PictureMask, is_good: bool) -> str | None:
    """What is wrong with the mask of a picture, if anything is.

    Raises:
        DataError: a file cannot be used.
    """
    whole = mask.whole()
    if is_good:
        return "of good" if whole.any() else None
    if not mask.paths:
        return "missing"
    if not whole.any():
        return "black"
    return None if _cut(whole, mask.region).any() else "outside"


def _cut(mask: Mask, region: Region | None) -> Mask:
    return mask if region is None else mask[region.y : region.y + region.height, region.x : region.x + region.width]


def _in_folders_of_masks(folder: Path) -> Iterator[Path]:
    for child in folders_in(folder):
        if word_of(child) in MASKS:
            yield from list_pictures(child) if holds_pictures(child) else ()
        else:
            yield from _in_folders_of_masks(child)


def _name(path: Path, data: Path) -> str:
    return str(path.relative_to(data)) if path.is_relative_to(data) else str(path)


def _sentence(kind: str, names: Sequence[str]) -> str:
    more = f", and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{_FAULTS[kind]} ({len(names)}): {', '.join(names[:_NAMED])}{more}"
