from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.sharpness import edge_blur

SIGMAS = [0.8, 1.0, 1.5, 2.0, 3.0]
FINER = 4  # scenes are drawn this much finer, blurred, and shrunk as a sensor does


def discs(sigma: float) -> Tensor:
    """(4, 1, 128, 128): discs of 5 to 30 px across, one over the other."""
    random, scenes = np.random.default_rng(0), np.zeros((4, 128 * FINER, 128 * FINER), np.float32)
    for scene in scenes:
        for _ in range(40):
            centre, radius = random.integers(0, len(scene), 2).tolist(), int(random.integers(10, 60))
            cv2.circle(scene, centre, radius, float(random.normal()), -1)
    return seen(scenes, sigma)


def grain(sigma: float) -> Tensor:
    """(4, 1, 128, 128): nothing but blurred noise."""
    scenes = np.random.default_rng(1).normal(size=(4, 128 * FINER, 128 * FINER)).astype(np.float32)
    return seen(scenes, sigma)


def seen(scenes: np.ndarray, sigma: float) -> Tensor:
    blurred = [cv2.GaussianBlur(scene, (0, 0), sigma * FINER) for scene in scenes]
    shrunk = [cv2.resize(one, None, fx=1 / FINER, fy=1 / FINER, interpolation=cv2.INTER_AREA) for one in blurred]
    return torch.from_numpy(np.stack(shrunk))[:, None]


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("scenes", [discs, grain])
def test_finds_the_blur_of_a_lens_to_a_fifth(scenes: Callable[[float], Tensor], sigma: float) -> None:
    np.testing.assert_allclose(edge_blur(scenes(sigma)), sigma, rtol=0.22)


def test_light_does_not_matter() -> None:
    pictures = discs(1.2)
    torch.testing.assert_close(edge_blur(7 - 3 * pictures), edge_blur(pictures), atol=1e-3, rtol=0)


def test_each_picture_has_its_own() -> None:
    found = edge_blur(torch.cat([discs(1.0)[:1], discs(2.5)[:1]]).expand(-1, 3, -1, -1))
    assert found.shape == (2,)
    assert found[1] > 2 * found[0]


@pytest.mark.parametrize("side", [16, 64, 256])
def test_a_flat_picture_is_not_blurred(side: int) -> None:
    assert edge_blur(torch.full((2, 1, side, side), 0.3)).tolist() == [0, 0]
