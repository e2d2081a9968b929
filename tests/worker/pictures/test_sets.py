from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.pictures.sets import TestPicture as Labelled
from quarterturn.worker.pictures.sets import good_pictures, hold_out, list_pictures, mask_paths, split_held_out
from quarterturn.worker.pictures.sets import test_pictures as labelled_pictures


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def names(pictures: dict[str, list[Path]], root: Path) -> dict[str, list[str]]:
    return {product: [str(path.relative_to(root)) for path in paths] for product, paths in pictures.items()}


def test_pictures_are_found_by_suffix_at_any_depth_and_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a/c.png", "a/d.tiff", "e.webp", "f.bmp", "g.jpeg", "h.tif", "notes.txt", "mask.npy")
    (tmp_path / "folder.png").mkdir()
    found = [str(path.relative_to(tmp_path)) for path in list_pictures(tmp_path)]
    assert found == ["a/c.png", "a/d.tiff", "b.JPG", "e.webp", "f.bmp", "g.jpeg", "h.tif"]


def test_one_product_in_mvtec_layout(tmp_path: Path) -> None:
    root = touch(
        tmp_path / "screw",
        "train/good/000.png",
        "train/good/001.png",
        "test/good/000.png",
        "test/scratch/000.png",
        "ground_truth/scratch/000_mask.png",
    )
    assert names(good_pictures(root), root) == {"screw": ["train/good/000.png", "train/good/001.png"]}
    assert labelled_pictures(root) == [
        Labelled(root / "test/good/000.png", "screw", "good"),
        Labelled(root / "test/scratch/000.png", "screw", "scratch"),
    ]


def test_the_product_is_named_after_the_folder_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = touch(tmp_path / "screw", "train/good/0.png", "test/dent/0.png")
    monkeypatch.chdir(root)
    assert list(good_pictures(Path())) == ["screw"]
    assert [picture.product for picture in labelled_pictures(Path())] == ["screw"]


def test_several_products_in_mvtec_layout(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        "nut/train/good/0.png",
        "bolt/train/good/0.png",
        "bolt/test/good/1.png",
        "bolt/test/bent/0.png",
        "nut/test/bent/0.png",
    )
    assert names(good_pictures(root), root) == {"bolt": ["bolt/train/good/0.png"], "nut": ["nut/train/good/0.png"]}
    found = [(picture.product, picture.defect, picture.path.name) for picture in labelled_pictures(root)]
    assert found == [("bolt", "bent", "0.png"), ("bolt", "good", "1.png"), ("nut", "bent", "0.png")]


def test_products_only_with_a_kind_that_training_never_saw(tmp_path: Path) -> None:
    root = touch(tmp_path / "neu", "train/a/0.png", "train/b/0.png", "test/a/1.png", "test/b/1.png", "test/c/1.png")
    assert names(good_pictures(root), root) == {"a": ["train/a/0.png"], "b": ["train/b/0.png"]}
    found = [(picture.product, picture.defect) for picture in labelled_pictures(root)]
    assert found == [("a", "good"), ("b", "good"), ("neu", "c")]


def test_products_side_by_side_and_pictures_alone(tmp_path: Path) -> None:
    root = touch(tmp_path / "parts", "a/0.png", "b/x/0.png", ".cache/0.png")
    assert names(good_pictures(root), root) == {"a": ["a/0.png"], "b": ["b/x/0.png"]}
    alone = touch(tmp_path / "rings", "0.png", "1.png")
    assert names(good_pictures(alone), alone) == {"rings": ["0.png", "1.png"]}


def test_test_pictures_never_count_as_good(tmp_path: Path) -> None:
    root = touch(tmp_path / "screw", "train/0.png", "test/dent/0.png", "test/good/0.png")
    assert names(good_pictures(root), root) == {"screw": ["train/0.png"]}


def masks(root: Path) -> dict[str, str]:
    """By test picture, its masks, joined by a space."""
    found = {picture.path: mask_paths(root, picture) for picture in labelled_pictures(root)}
    return {
        str(at.relative_to(root)): " ".join(str(mask.relative_to(root)) for mask in files)
        for at, files in found.items()
    }


def test_masks_lie_beside_the_test_folder_under_either_name(tmp_path: Path) -> None:
    root = touch(
        tmp_path / "screw",
        "train/good/0.png",
        "test/good/0.png",
        "test/scratch/0.jpg",
        "test/scratch/1.png",
        "test/scratch/2.png",
        "test/scratch/left/3.png",
        "ground_truth/scratch/0.png",
        "ground_truth/scratch/1_mask.png",
        "ground_truth/scratch/left/3_mask.png",
        "ground_truth/dent/2.png",
    )
    (root / "ground_truth/scratch/2_mask.png").mkdir()
    assert masks(root) == {
        "test/good/0.png": "",
        "test/scratch/0.jpg": "ground_truth/scratch/0.png",
        "test/scratch/1.png": "ground_truth/scratch/1_mask.png",
        "test/scratch/2.png": "",
        "test/scratch/left/3.png": "ground_truth/scratch/left/3_mask.png",
    }


def test_masks_of_several_products(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        "nut/train/good/0.png",
        "nut/test/bent/0.png",
        "nut/ground_truth/bent/0_mask.png",
        "bolt/train/good/0.png",
        "bolt/test/bent/0.png",
    )
    assert masks(root) == {"nut/test/bent/0.png": "nut/ground_truth/bent/0_mask.png", "bolt/test/bent/0.png": ""}


def test_products_only_have_no_masks(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/a/0.png", "test/a/1.png")
    assert masks(root) == {"test/a/1.png": ""}
    elsewhere = Labelled(tmp_path.parent / "test/a/1.png", "a", "dent")
    assert mask_paths(root, elsewhere) == []


def test_folders_without_pictures(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for read in (list_pictures, good_pictures):
        with pytest.raises(DataError, match=r"empty: holds no picture \(\.bmp, .*\); check the path"):
            read(empty)
    for read in (list_pictures, good_pictures, labelled_pictures):
        with pytest.raises(DataError, match=r"nowhere: there is no such folder; check the path"):
            read(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"empty: holds no test/<type>/ folder with pictures; see docs/data.md"):
        labelled_pictures(empty)
    touch(tmp_path, "half/a/0.png")
    (tmp_path / "half" / "b").mkdir()
    with pytest.raises(DataError, match=r"half/b: holds no picture"):
        good_pictures(tmp_path / "half")


file_names = st.lists(st.integers(0, 10_000).map(lambda number: Path(f"{number:05}.png")), unique=True, max_size=80)


@given(file_names, st.sampled_from([0.0, 0.07, 0.1, 0.2, 0.25, 0.5, 0.99]), st.randoms())
def test_held_out_pictures(pictures: list[Path], share: float, random: object) -> None:
    learned, held_out = hold_out(pictures, share)
    assert sorted(learned + held_out) == sorted(pictures)
    assert len(held_out) == max(0, min(math.ceil(Fraction(str(share)) * len(pictures)), len(pictures) - 1))
    shuffled = list(pictures)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert hold_out([Path("/elsewhere") / path for path in shuffled], share) == (
        [Path("/elsewhere") / path for path in learned],
        [Path("/elsewhere") / path for path in held_out],
    )


def test_neighbours_fall_on_both_sides() -> None:
    pictures = [Path(f"{number:03}.png") for number in range(200)]
    _, held_out = hold_out(pictures, 0.25)
    numbers = [int(path.stem) for path in held_out]
    for start in range(0, 200, 50):
        assert 4 <= sum(start <= number < start + 50 for number in numbers) <= 22


def test_a_larger_share_holds_out_the_same_and_more() -> None:
    pictures = [Path(f"{number:03}.png") for number in range(100)]
    assert set(hold_out(pictures, 0.1)[1]) < set(hold_out(pictures, 0.3)[1])


@given(file_names, st.randoms())
def test_held_out_pictures_are_split_to_choose_by_and_to_calibrate_with(pictures: list[Path], random: object) -> None:
    choice, calibration = split_held_out(pictures)
    assert sorted(choice + calibration) == sorted(pictures)  # none in both, none lost
    assert choice == sorted(choice)
    assert calibration == sorted(calibration)
    assert len(choice) == min(len(pictures), max(1, len(pictures) // 4))
    shuffled = list(pictures)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert split_held_out([Path("/elsewhere") / path for path in shuffled]) == (
        [Path("/elsewhere") / path for path in choice],
        [Path("/elsewhere") / path for path in calibration],
    )


@pytest.mark.parametrize(("count", "to_choose"), [(1, 1), (2, 1), (3, 1), (7, 1), (8, 2), (266, 66), (268, 67)])
def test_a_quarter_is_to_choose_by(count: int, to_choose: int) -> None:
    choice, calibration = split_held_out([Path(f"{number:03}.png") for number in range(count)])
    assert (len(choice), len(calibration)) == (to_choose, count - to_choose)


def test_both_parts_of_the_held_out_pictures_are_spread_over_them() -> None:
    choice, _ = split_held_out([Path(f"{number:03}.png") for number in range(200)])
    numbers = [int(path.stem) for path in choice]
    for start in range(0, 200, 50):
        assert 4 <= sum(start <= number < start + 50 for number in numbers) <= 22
