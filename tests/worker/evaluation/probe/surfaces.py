"""Sets of pictures of surfaces, in which nothing or one thing is trivial."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Write = Callable[[Path, Picture], None]


def surface(seed: int, height: int = 40, width: int = 48, *, blur: float = 1.5) -> Picture:
    """A surface (H, W, 3) of its own: the same seed is the same part."""
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise
    grey = 128 + 20 * noise / noise.std()
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def as_png(path: Path, picture: Picture) -> None:
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())


def as_grey_png(path: Path, picture: Picture) -> None:
    as_png(path, picture[..., 0])


def as_jpeg(quality: int) -> Write:
    def write(path: Path, picture: Picture) -> None:
        path.write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())

    return write


def as_bmp(path: Path, picture: Picture) -> None:
    path.write_bytes(cv2.imencode(".bmp", picture)[1].tobytes())


def write_set(
    root: Path,
    *,
    change: Callable[[int], Picture] = surface,
    write: Write = as_png,
    only: str = "test/bad",
    count: int = 24,
) -> Path:
    """A set in which nothing is trivial, but what `change` and `write` do to the group `only`."""
    for group, start in (("train/good", 0), ("test/good", 1000), ("test/bad", 2000)):
        (root / group).mkdir(parents=True)
        for number in range(start, start + count):
            changed = group == only
            (write if changed else as_png)(root / group / f"{number:04}.png", (change if changed else surface)(number))
    return root


def brighter(seed: int) -> Picture:
    return cv2.add(surface(seed), np.full((40, 48, 3), 40, np.uint8))
