from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.evaluation.mask_files import read_mask

DRAWN = np.zeros((20, 24), np.bool_)
DRAWN[5:9, 6:12] = DRAWN[14, 3:20] = True
GREY = Image.fromarray(DRAWN.astype(np.uint8) * 255)


def levels(level: int, dtype: type[np.integer] = np.uint8) -> Image.Image:
    return Image.fromarray((DRAWN * level).astype(dtype))


def palette(*colours: int) -> Image.Image:
    image = levels(1).convert("P")
    image.putdata(DRAWN.astype(np.uint8).ravel().tolist())
    image.putpalette(colours)
    return image


def see_through(defect: int, ground: int) -> Image.Image:
    """A defect in one grey level on a transparent ground of another."""
    grey = np.where(DRAWN, defect, ground).astype(np.uint8)
    return Image.fromarray(np.dstack([grey, grey, grey, DRAWN.astype(np.uint8) * 255]))


ANYWHERE = {
    "grey": GREY,
    "bilevel": GREY.convert("1"),
    "label 1": levels(1),
    "label 3": levels(3),
    "palette": palette(0, 0, 0, 0, 0, 200),
}
DEEP = {f"16 bits, {level}": levels(level, np.uint16) for level in (1, 255, 65535)}
SEE_THROUGH = {
    "white on nothing": see_through(255, 0),
    "white on transparent white": see_through(255, 255),
    "black on nothing": see_through(0, 0),
    "opaque": GREY.convert("RGBA"),
}
IN_PNG_ALONE = {"grey with alpha": Image.merge("LA", (levels(0), GREY))}


@pytest.mark.parametrize(
    ("suffix", "mask"),
    [
        pytest.param(suffix, mask, id=f"{name}{suffix}")
        for suffixes, masks in (
            ((".png", ".PNG"), ANYWHERE | DEEP | SEE_THROUGH | IN_PNG_ALONE),
            ((".bmp", ".BMP"), ANYWHERE),
            ((".tif", ".TIFF"), ANYWHERE | DEEP | SEE_THROUGH),
        )
        for suffix in suffixes
        for name, mask in masks.items()
    ],
)
def test_masks_of_every_depth_and_format(suffix: str, mask: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / f"mask{suffix}"
    mask.save(path)
    found = read_mask(path, 20, 24)
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, DRAWN)


def test_traces_beside_an_edge_in_a_jpeg_are_no_defect(tmp_path: Path) -> None:
    for number, (level, quality) in enumerate([(255, 95), (255, 60), (128, 90)]):
        path = tmp_path / f"{number}.jpg"
        cv2.imwrite(str(path), DRAWN.astype(np.uint8) * level, [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0).sum() > DRAWN.sum()
        np.testing.assert_array_equal(read_mask(path, 20, 24), DRAWN)
    cv2.imwrite(str(path), np.zeros((20, 24), np.uint8))
    assert not read_mask(path, 20, 24).any()


def test_masks_are_read_as_drawn(tmp_path: Path) -> None:
    levels = np.array([[0, 1, 128], [255, 0, 0]], np.uint8)
    for suffix, pixels in {"grey": levels, "colour": levels[..., None] * np.array([0, 0, 1], np.uint8)}.items():
        path = tmp_path / f"{suffix}.png"
        cv2.imwrite(str(path), pixels)
        mask = read_mask(path, 2, 3)
        assert mask.dtype == np.bool_
        assert mask.tolist() == [[False, True, True], [True, False, False]]


def test_masks_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "0_mask.png"
    with pytest.raises(DataError, match=r"0_mask.png: cannot be read \(No such file or directory\); check the path"):
        read_mask(path, 2, 3)
    path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"0_mask.png: 10 bytes are no .*; replace or remove the mask"):
        read_mask(path, 2, 3)
    cv2.imwrite(str(path), np.zeros((20, 30), np.uint8))
    with pytest.raises(DataError, match=r"0_mask.png: the mask is 30x20, but its picture is 31x20; draw it again"):
        read_mask(path, 20, 31)
