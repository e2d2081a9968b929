"""Small copies of pictures for the report: as they are, and under their heat map with the mask's outline."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from quarterturn.worker.contract.arrays import Mask, Picture
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.framing import fitted
from quarterturn.worker.contract.picture import BitDepth, Region
from quarterturn.worker.evaluation.figures import Inspected
from quarterturn.worker.evaluation.masks import PictureMask
from quarterturn.worker.inspection.heatmap import overlay
from quarterturn.worker.pages.page import data_uri
from quarterturn.worker.pictures.decode import decode_picture
from quarterturn.worker.pictures.read import crop

_THUMBNAIL_PX = 320  # the longer side; twice its size on the page, for fine screens
_BESIDE_PX = 5  # between a defect and its outline, so that a fine one stays visible
# Bright on dark, so that it shows on any picture, in print and to the colour-blind; no colour of the heat map.
_OUTLINE = ((0, 0, 0), 4), ((90, 220, 255), 2)


@dataclass(frozen=True)
class Shown:
    """A picture with a small copy of it as a data URI, and one under heat map and outline (None without both)."""

    inspected: Inspected
    thumbnail: str
    marked: str | None
    width: int
    height: int


def show(one: Inspected, region: Region | None, bit_depth: BitDepth | None) -> Shown:
    """The region that was looked at, small; the mask's outline is drawn where the picture has one.

    Raises:
        DataError: the picture, or its mask, cannot be read any more.
    """
    try:
        whole = decode_picture(one.path.read_bytes(), bit_depth=bit_depth)
    except OSError as error:
        raise DataError(f"{one.path}: cannot be read any more ({error.strerror}); evaluate again") from error
    picture = crop(whole, region)
    small = fitted(picture, _THUMBNAIL_PX)
    marked = small if one.heat is None else overlay(small, one.heat)
    if one.masks:
        marked = outlined(marked, PictureMask(one.masks, whole.shape[0], whole.shape[1], region).read())
    return Shown(one, data_uri(small), None if marked is small else data_uri(marked), small.shape[1], small.shape[0])


def outlined(picture: Picture, mask: Mask) -> Picture:
    """`picture` (h, w, 3) with a line round all that is True in `mask`, of any size; a copy."""
    height, width = picture.shape[:2]
    covered = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0
    beside = 2 * _BESIDE_PX + 1
    around = cv2.dilate(covered.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (beside, beside)))
    lines = cv2.findContours(around, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
    drawn: Picture = picture.copy()
    for colour, thickness in _OUTLINE:
        cv2.drawContours(drawn, lines, -1, colour, thickness, cv2.LINE_AA)
    return drawn
