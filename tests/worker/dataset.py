"""Folders of small pictures of parts, in the layouts that users have."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from tests.parts import good_part, png, scratched_part


def barely_worn(rng: np.random.Generator, product: str) -> npt.NDArray[np.uint8]:
    """A defect that no score can see."""
    return good_part(rng, product)


def write_product(root: Path, product: str = "ring", *, train: int = 60, good: int = 12, bad: int = 8) -> None:
    """Write `root` in MVTec's layout: train/good, test/good, test/scratch and test/wear."""
    rng = np.random.default_rng(len(product))
    for folder, count, make in (
        ("train/good", train, good_part),
        ("test/good", good, good_part),
        ("test/scratch", bad, scratched_part),
        ("test/wear", bad, barely_worn),
    ):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            (root / folder / f"{number:03}.png").write_bytes(png(make(rng, product)))


def write_masked(root: Path) -> Path:
    """Of eight scratches, one has no mask and one a black one; of eight worn parts, which show nothing, one has one."""
    write_product(root, train=1)
    mask = np.zeros((32, 32), np.uint8)
    mask[12:28, 16:28] = 255  # where tests.parts.scratched_part puts it
    for kind, names in (("scratch", [f"{n:03}" for n in range(1, 7)] + ["007_mask"]), ("wear", ["002"])):
        (root / "ground_truth" / kind).mkdir(parents=True)
        for name in names:
            cv2.imwrite(str(root / "ground_truth" / kind / f"{name}.png"), mask * (name != "003"))
    return root
