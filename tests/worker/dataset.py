"""Folders of small pictures of parts, in the layouts that users have."""

from __future__ import annotations

from pathlib import Path

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
