"""Which pictures a folder holds: of which product, good or not, for training or held out.

Four layouts are read:

- `train/good/*`, `test/<type>/*`: MVTec's, one product named after the folder;
- `<product>/train/good/*`, `<product>/test/<type>/*`: the same, several products side by side;
- `train/<product>/*`, `test/<product>/*`: products only, every picture is good;
- `<product>/*` or pictures directly in the folder: products only, nothing to test on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from quarterturn.worker.contract.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
GOOD = "good"


@dataclass(frozen=True, slots=True)
class TestPicture:
    """A labelled picture: its product and its defect type ("good" for a good part)."""

    __test__ = False  # not a pytest class

    path: Path
    product: str
    defect: str


def list_pictures(folder: Path) -> list[Path]:
    """All picture files below `folder`, sorted.

    Raises:
        DataError: the folder is missing or holds no picture.
    """
    _require_folder(folder)
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise DataError(f"{folder}: holds no picture ({', '.join(sorted(SUFFIXES))}); check the path")
    return found


def good_pictures(root: Path) -> dict[str, list[Path]]:
    """The good pictures to learn from, by product (sorted).

    Raises:
        DataError: the folder is missing, empty or laid out in none of the four ways.
    """
    _require_folder(root)
    if (root / "train" / GOOD).is_dir():
        return {root.resolve().name: list_pictures(root / "train" / GOOD)}
    children = _folders(root)
    plants = [child for child in children if (child / "train" / GOOD).is_dir()]
    if plants:
        return {child.name: list_pictures(child / "train" / GOOD) for child in plants}
    # Below train/ only, where there is one: beside it lie the test pictures, and those must never count as good.
    folder = root / "train" if (root / "train").is_dir() else root
    children = _folders(folder)
    if children:
        return {child.name: list_pictures(child) for child in children}
    return {root.resolve().name: list_pictures(folder)}


def test_pictures(root: Path) -> list[TestPicture]:
    """The labelled test pictures below `root`, sorted by product, type and name.

    Raises:
        DataError: the folder is missing, or holds none.
    """
    _require_folder(root)
    products = good_pictures(root) if (root / "train").is_dir() else {}
    found: list[TestPicture] = []
    if (root / "test").is_dir():
        for child in _folders(root / "test"):
            is_product = child.name in products
            product, defect = (child.name, GOOD) if is_product else (root.resolve().name, child.name)
            found += [TestPicture(path, product, defect) for path in list_pictures(child)]
    else:
        for plant in _folders(root):
            if (plant / "test").is_dir():
                for child in _folders(plant / "test"):
                    found += [TestPicture(path, plant.name, child.name) for path in list_pictures(child)]
    if not found:
        raise DataError(f"{root}: holds no test/<type>/ folder with pictures; see docs/data.md for the layouts")
    return found


test_pictures.__test__ = False  # type: ignore[attr-defined]  # not a pytest function


def mask_path(root: Path, picture: TestPicture) -> Path | None:
    """Where MVTec's layouts keep the mask of a test picture of `root`'s; None where there is none.

    That of `test/<type>/<name>.*` is `ground_truth/<type>/<name>.png` or `<name>_mask.png`, beside the product's test/.
    """
    for folder in (root, root / picture.product):
        if picture.path.is_relative_to(folder / "test"):
            beside = folder / "ground_truth" / picture.path.relative_to(folder / "test").parent
            candidates = (beside / f"{picture.path.stem}{ending}.png" for ending in ("", "_mask"))
            return next((path for path in candidates if path.is_file()), None)
    return None


def hold_out(pictures: Sequence[Path], share: float) -> tuple[list[Path], list[Path]]:
    """Split one product's pictures into (to learn from, held out), the same way every time.

    The order is that of the hash of the file names, so training and bank fitting agree without a list on disk, and
    neighbouring numbers fall on both sides. `ceil(share · n)` are held out, never all.
    """
    ranked = _ranked(pictures)
    count = min(math.ceil(Fraction(str(share)) * len(ranked)), len(ranked) - 1)
    return sorted(ranked[count:]), sorted(ranked[:count])


def split_held_out(pictures: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Split held-out pictures into (a quarter to weigh detectors by, the rest to calibrate with), always the same way.

    What was weighed on a picture may not be calibrated on it, else the threshold would promise too much. At least one
    picture is to weigh by, and where there are two or more at least one to calibrate with.
    """
    ranked = _ranked(pictures)
    count = max(1, len(ranked) // 4)
    return sorted(ranked[:count]), sorted(ranked[count:])


def _ranked(pictures: Sequence[Path]) -> list[Path]:
    return sorted(pictures, key=lambda path: hashlib.sha256(path.name.encode()).digest())


def _folders(root: Path) -> list[Path]:
    return sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))


def _require_folder(path: Path) -> None:
    if not path.is_dir():
        raise DataError(f"{path}: there is no such folder; check the path")
