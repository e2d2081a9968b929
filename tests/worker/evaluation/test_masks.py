"""Which masks of a folder are used, and that each of the others is named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from quarterturn.worker.contract.picture import Region
from quarterturn.worker.evaluation.masks import Masks, find_masks
from quarterturn.worker.pictures.sets import test_pictures as labelled_pictures

SIDE = 16


def write(
    root: Path, *names: str, level: int = 100, marked: tuple[slice, slice] | None = None, side: int = SIDE
) -> None:
    """Grey pictures, or with `marked` masks."""
    for name in names:
        pixels = np.full((side, side), 0 if marked else level, np.uint8)
        if marked:
            pixels[marked] = 255
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), pixels)


CORNER = (slice(0, 4), slice(0, 4))
OTHER = (slice(8, 12), slice(8, 12))
NOTHING = (slice(0, 0), slice(0, 0))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A good part, three dents with their masks, and a scratch with one."""
    write(
        tmp_path, "train/good/0.png", "test/good/0.png", *(f"test/dent/{n}.png" for n in range(3)), "test/scratch/0.png"
    )
    write(tmp_path, *(f"ground_truth/dent/{n}_mask.png" for n in range(3)), "ground_truth/scratch/0.png", marked=CORNER)
    return tmp_path


def find(root: Path, region: Region | None = None) -> Masks:
    return find_masks(root, labelled_pictures(root), region)


def marked_in(found: Masks, root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): int(mask.read().sum()) for path, mask in found.known.items()}


ALL = {"test/good/0.png": 0, **{f"test/dent/{n}.png": 16 for n in range(3)}, "test/scratch/0.png": 16}


def test_a_set_in_order_has_no_fault(root: Path) -> None:
    assert find(root).faults == []
    assert marked_in(find(root), root) == ALL


def without(*names: str) -> dict[str, int]:
    return {name: count for name, count in ALL.items() if name not in names}


def test_a_folder_without_masks_has_none(tmp_path: Path) -> None:
    write(tmp_path, "train/good/0.png", "test/good/0.png", "test/dent/0.png")
    (tmp_path / "ground_truth").mkdir()
    assert find(tmp_path) == Masks()


def test_several_files_are_one_mask(root: Path) -> None:
    """As MVTec LOCO has them; one of them may be black."""
    (root / "ground_truth/dent/1_mask.png").unlink()
    write(root, "ground_truth/dent/1/000.png", marked=CORNER)
    write(root, "ground_truth/dent/1/001.png", marked=OTHER)
    write(root, "ground_truth/dent/1/002.png", marked=NOTHING)
    assert find(root).faults == []
    assert marked_in(find(root), root) == {**ALL, "test/dent/1.png": 32}


def test_masks_beside_their_pictures(tmp_path: Path) -> None:
    """As KolektorSDD2 has them: a good picture has a black one."""
    write(tmp_path, "train/0.png", "test/1.png", "test/2.png")
    write(tmp_path, "train/0_GT.png", "test/1_GT.png", marked=NOTHING)
    write(tmp_path, "test/2_GT.png", marked=CORNER)
    assert find(tmp_path).faults == []
    assert marked_in(find(tmp_path), tmp_path) == {"test/1.png": 0, "test/2.png": 16}


def test_a_bad_picture_without_a_mask_is_named(root: Path) -> None:
    (root / "ground_truth/dent/1_mask.png").unlink()
    assert find(root).faults == ["bad pictures without a mask, though others have one (1): test/dent/1.png"]
    assert marked_in(find(root), root) == without("test/dent/1.png")


@pytest.mark.parametrize(
    "name", ["dent/7.png", "dent/0_mask_old.png", "dents/0.png", "0.png", "good/3.png", "dent/5/000.bmp"]
)
def test_a_mask_that_belongs_to_no_picture_is_named(root: Path, name: str) -> None:
    write(root, f"ground_truth/{name}", marked=CORNER)
    lost = f"masks that belong to no test picture, so call each like its picture (1): ground_truth/{name}"
    assert find(root).faults == [lost]
    assert marked_in(find(root), root) == ALL


def test_a_folder_of_nothing_but_lost_masks_is_told(tmp_path: Path) -> None:
    write(tmp_path, "train/good/0.png", "test/good/0.png", "test/dent/0.png")
    write(tmp_path, "masks/other/0.png", "masks/other/1.png", marked=CORNER)
    assert len(find(tmp_path).faults) == 2
    assert "(2): masks/other/0.png, masks/other/1.png" in find(tmp_path).faults[0]


def test_a_black_mask_is_named(root: Path) -> None:
    write(root, "ground_truth/scratch/0.png", marked=NOTHING)
    black = "masks that are all black, though their pictures count as bad (1): ground_truth/scratch/0.png"
    assert find(root).faults == [black]
    assert marked_in(find(root), root) == without("test/scratch/0.png")


def test_a_good_picture_with_a_defect_in_its_mask_is_named(root: Path) -> None:
    write(root, "ground_truth/good/0.png", marked=CORNER)
    of_good = "masks that are not black, though their pictures count as good (1): ground_truth/good/0.png"
    assert find(root).faults == [of_good]
    assert marked_in(find(root), root) == ALL


def test_a_mask_of_another_size_and_a_damaged_one_are_named(root: Path) -> None:
    write(root, "ground_truth/scratch/0.png", marked=CORNER, side=15)
    (root / "ground_truth/dent/2_mask.png").write_bytes(b"no picture")
    (fault,) = find(root).faults
    assert fault.startswith("masks that cannot be used (2): ground_truth/dent/2_mask.png: 10 bytes are no JPEG")
    assert "ground_truth/scratch/0.png: the mask is 15x15, but its picture is 16x16" in fault
    assert marked_in(find(root), root) == without("test/scratch/0.png", "test/dent/2.png")


def test_a_defect_outside_of_the_region_is_named(root: Path) -> None:
    write(root, "ground_truth/scratch/0.png", marked=OTHER)
    region = Region(x=2, y=2, width=6, height=6)
    outside = "masks that show nothing in the region that is looked at (1): ground_truth/scratch/0.png"
    assert find(root, region).faults == [outside]
    expected = {**dict.fromkeys(without("test/scratch/0.png"), 4), "test/good/0.png": 0}
    assert marked_in(find(root, region), root) == expected


def test_three_are_named_and_the_others_counted(root: Path) -> None:
    write(root, *(f"ground_truth/dent/{n}.png" for n in range(10, 15)), marked=CORNER)
    names = ", ".join(f"ground_truth/dent/{n}.png" for n in (10, 11, 12))
    assert find(root).faults[0].endswith(f"(5): {names}, and 2 more")


def test_an_unreadable_picture_is_no_fault_of_its_mask(root: Path) -> None:
    (root / "test/dent/0.png").write_bytes(b"no picture")
    assert find(root).faults == []
    assert marked_in(find(root), root) == without("test/dent/0.png")
