"""Which pictures calibrate: none that training or the bank has seen, under whatever name and in whatever file."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from quarterturn.trainer.config import DataSettings
from quarterturn.trainer.data import find_good_parts
from quarterturn.worker.contract.bank import ScoringSettings
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.known_pictures import KnownPictures
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.fitting.fit import fit_bank
from quarterturn.worker.fitting.split import Split, split_pictures
from tests.parts import NumpyEngine, good_part, png

HOLDOUT = 0.4
GOOD = "train/good"
Training = tuple[Path, dict[str, KnownPictures]]


def write_parts(folder: Path, count: int, first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        (folder / f"{number:03}.png").write_bytes(png(good_part(np.random.default_rng(number))))


@pytest.fixture
def trained(tmp_path: Path) -> Training:
    """A folder of sixty pictures, and what its training knew."""
    root = tmp_path / "ring"
    write_parts(root / GOOD, 60)
    return root, find_good_parts(DataSettings(path=root, side=32, holdout=HOLDOUT)).known


def contents(split: Split, part: str) -> set[bytes]:
    return {path.read_bytes() for path in getattr(split, part)["ring"]}


def add(root: Path) -> None:
    write_parts(root, 37, first=100)


def remove(root: Path) -> None:
    for path in sorted(root.iterdir())[::3]:
        path.unlink()


def rename(root: Path) -> None:
    for path in sorted(root.iterdir()):
        path.rename(root / f"part-{int(path.stem) * 7 % 61}.png")


def swap_names(root: Path) -> None:
    data = [path.read_bytes() for path in sorted(root.iterdir())]
    for path, other in zip(sorted(root.iterdir()), data[::-1], strict=True):
        path.write_bytes(other)


def move(root: Path) -> None:
    (root / "monday").mkdir()
    for path in sorted(root.glob("*.png"))[:20]:
        path.rename(root / "monday" / path.name)


def copy(root: Path) -> None:
    for path in sorted(root.iterdir()):
        shutil.copy(path, root / f"copy of {path.name}")


CHANGES = [add, remove, rename, swap_names, move, copy]


@pytest.mark.parametrize("holdout", [HOLDOUT, 0.1, 0.9])
@pytest.mark.parametrize("change", CHANGES)
def test_what_training_knew_stays_on_its_side(
    trained: Training, change: Callable[[Path], None], holdout: float
) -> None:
    root, known = trained
    before = split_pictures(root, None, HOLDOUT)
    sides = {part: contents(before, part) for part in ("normal", "weighing", "calibration")}
    change(root / GOOD)
    after = split_pictures(root, None, holdout, known=known)
    everything = {path.read_bytes() for path in root.rglob("*.png")}
    for part, pictures in sides.items():
        assert contents(after, part) & set.union(*sides.values()) == pictures & everything
    found = [contents(after, part) for part in sides]
    assert set.union(*found) == everything
    assert sum(map(len, found)) == len(everything)


def test_new_pictures_are_split_as_training_split_its_own(trained: Training, caplog: pytest.LogCaptureFixture) -> None:
    root, known = trained
    split_pictures(root, None, HOLDOUT, known=known)
    assert caplog.messages == []
    add(root / GOOD)
    (root / GOOD / "000.png").unlink()
    (root / GOOD / "001.png").write_bytes(png(good_part(np.random.default_rng(1000))))
    split = split_pictures(root, None, HOLDOUT, known=known)
    new = [
        [path for path in part["ring"] if int(path.stem) >= 100]
        for part in (split.normal, split.weighing, split.calibration)
    ]
    assert [len(part) for part in new] == [22, 3, 12]
    assert caplog.messages == [
        (
            "ring: the pictures are not those of training (37 are new, 1 are changed, 1 are gone); those that it knew "
            "stay on their side, so that none it learned from calibrates"
        )
    ]


def test_pictures_of_another_folder_are_all_new(trained: Training, tmp_path: Path) -> None:
    _, known = trained
    write_parts(tmp_path / "other" / "ring", 60, first=500)
    split = split_pictures(tmp_path / "other" / "ring", None, HOLDOUT, known=known)
    assert [len(part["ring"]) for part in (split.normal, split.weighing, split.calibration)] == [36, 6, 18]


def test_with_nothing_left_to_weigh_by_some_that_were_held_out_do(trained: Training) -> None:
    root, known = trained
    before = split_pictures(root, None, HOLDOUT)
    for path in before.weighing["ring"]:
        path.unlink()
    after = split_pictures(root, None, HOLDOUT, known=known)
    assert len(after.weighing["ring"]) == 4
    assert {*after.weighing["ring"], *after.calibration["ring"]} == {*before.calibration["ring"]}
    for path in before.normal["ring"]:
        path.unlink()
    with pytest.raises(DataError, match="product 'ring' has 0 good pictures for the bank"):
        split_pictures(root, None, HOLDOUT, known=known)


@pytest.mark.parametrize("part", ["normal", "weighing"])
def test_a_folder_to_calibrate_with_holds_nothing_that_training_saw(
    trained: Training, tmp_path: Path, part: str
) -> None:
    root, known = trained
    seen = getattr(split_pictures(root, None, HOLDOUT), part)["ring"][:2]
    further, bank = tmp_path / "further", tmp_path / "bank"
    write_parts(further, 20, first=200)
    write_parts(bank, 20, first=300)
    assert len(split_pictures(bank, further, HOLDOUT, known=known).calibration["bank"]) == 15
    for number, path in enumerate(seen):
        shutil.copy(path, further / f"other{number}.bmp")
    with pytest.raises(
        DataError, match=r"other0\.bmp: was seen in training \(1 others are, too\); calibrate with other"
    ):
        split_pictures(bank, further, HOLDOUT, known=known)
    with pytest.raises(DataError, match=r"other0\.bmp: is in both the bank and its calibration"):
        split_pictures(root, further, HOLDOUT)


def test_ten_pictures_copied_fifteen_times_promise_no_more_than_ten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "ring"
    write_parts(root, 10)
    for path in sorted(root.iterdir()):
        for number in range(14):
            shutil.copy(path, root / f"{path.stem}-{number}.{'png' if number % 2 else 'bmp'}")
    split = split_pictures(root, None, HOLDOUT)
    assert caplog.messages == [
        "ring: 140 of 150 pictures are exact copies of others; each picture counts once, so there are 10"
    ]
    assert [len(part["ring"]) for part in (split.normal, split.weighing, split.calibration)] == [6, 1, 3]
    engine = NumpyEngine(dimensions=4)
    with pytest.raises(DataError, match=r"an overkill of 5\.000% needs 19 .* there are 3"):
        fit_bank(engine, split, ScoringSettings(coreset=10), overkill=0.05)


def stored_anew(path: Path, to: Path) -> None:
    to.write_bytes(cv2.imencode(to.suffix, cv2.imread(str(path)))[1].tobytes())


@pytest.mark.parametrize("suffix", [".bmp", ".webp", ".tif"])
def test_a_photograph_of_the_bank_stored_anew_does_not_calibrate(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    bank, further = tmp_path / "bank", tmp_path / "further"
    write_parts(bank, 40)
    write_parts(further, 20, first=100)
    for number in range(8):
        stored_anew(bank / f"{number:03}.png", further / f"again{number}{suffix}")
        stored_anew(further / f"{100 + number}.png", further / f"twice{number}{suffix}")
    split = split_pictures(bank, further, 0.0)
    assert not [path for path in split.calibration["bank"] if path.stem.startswith("again")]
    every = {path.stem for path in [*split.weighing["bank"], *split.calibration["bank"]]}
    calibrating = {path.stem for path in split.calibration["bank"]}
    for number in range(8):
        assert not {f"{100 + number}", f"twice{number}"} <= calibrating
    left_out = 36 - len(every)
    (said,) = caplog.messages
    assert re.match(
        rf"bank: {left_out} of 27 calibration pictures show nearly what others do \(\w+\.\w+ is nearly ", said
    )
    assert (
        f"; {left_out} are the same photograph and do not calibrate. If these are pictures of one part, train" in said
    )


def test_of_one_part_one_picture_calibrates(tmp_path: Path) -> None:
    root = tmp_path / "ring"
    for part in range(30):
        write_parts(root / GOOD / f"part{part}", 4, first=10 * part)
    split = split_pictures(root, None, HOLDOUT, group="folder")
    parts = [{path.parent for path in side["ring"]} for side in (split.normal, split.weighing, split.calibration)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 30
    assert [len(split.normal["ring"]), len(split.weighing["ring"])] == [4 * len(parts[0]), 4 * len(parts[1])]
    assert len(split.calibration["ring"]) == len(parts[2])
    known = find_good_parts(DataSettings(path=root, side=32, holdout=HOLDOUT, group="folder")).known
    write_parts(root / GOOD / "part0", 3, first=5000)
    assert split_pictures(root, None, HOLDOUT, group="folder", known=known).calibration == split.calibration


def flat(level: int) -> bytes:
    return png(np.full((32, 32, 3), level, np.uint8))


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"0.png": flat(128)}, "product 'ring' has 1 good pictures for the bank; add others"),
        ({f"{n}.png": flat(128) for n in range(30)}, "product 'ring' has 1 good pictures for the bank"),
        ({f"{n}.png": flat(100 + n) for n in range(30)}, "product 'ring': all 30 good pictures are plain grey"),
        (
            {f"{n}.png": flat(128 + n % 2) + bytes(n) for n in range(30)},
            "all 30 good pictures look the same",
        ),
    ],
    ids=["one", "copies", "flat", "nearly the same"],
)
def test_pictures_that_teach_nothing_are_one_sentence(tmp_path: Path, files: dict[str, bytes], sentence: str) -> None:
    (tmp_path / "ring").mkdir()
    for name, data in files.items():
        (tmp_path / "ring" / name).write_bytes(data)
    with pytest.raises(DataError, match=sentence):
        split_pictures(tmp_path / "ring", None, HOLDOUT)


def test_only_the_region_has_to_show_something(tmp_path: Path) -> None:
    """The lower right corner of each picture is plain."""
    (tmp_path / "ring").mkdir()
    for number in range(30):
        picture = good_part(np.random.default_rng(number))
        picture[20:, 20:] = 90 + 2 * number
        (tmp_path / "ring" / f"{number}.png").write_bytes(png(picture))
    assert split_pictures(tmp_path / "ring", None, HOLDOUT, region=Region(x=0, y=0, width=32, height=20))
    with pytest.raises(DataError, match="product 'ring': all 30 good pictures are plain grey"):
        split_pictures(tmp_path / "ring", None, HOLDOUT, region=Region(x=20, y=20, width=12, height=12))
