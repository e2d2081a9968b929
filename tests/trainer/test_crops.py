from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from trainer.config import CropSettings
from trainer.crops import draw_crops, relight

Array = npt.NDArray[np.float32]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_frames(count: int, side: int = 96) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def cropped(
    frames: npt.NDArray[np.uint8],
    settings: CropSettings,
    seed: int = 0,
    turns: Sequence[int] = (0, 1, 2, 3, 0, 1, 2, 3),
) -> Array:
    """(B, K, s, s, 3), the same K turns of each frame."""
    every = torch.tensor([turns] * len(frames))
    return draw_crops(pixels(frames), every, settings, seeded(seed)).permute(0, 1, 3, 4, 2).numpy()


def pixels(frames: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def standardised(frame: npt.NDArray[np.uint8]) -> Array:
    return np.asarray((frame - frame.mean()) / frame.std(), np.float32)


def find(crop: Array, frame: Array) -> tuple[int, int] | None:
    """The row and column from which `frame` looks like `crop`."""
    side, room = len(crop), len(frame) - len(crop) + 1
    alike = np.abs(frame[:room, :room] - crop[0, 0]).max(axis=-1) < 1e-4
    for top, left in np.argwhere(alike).tolist():
        if np.allclose(frame[top : top + side, left : left + side], crop, atol=1e-4):
            return top, left
    return None


@pytest.mark.parametrize(("side", "crop"), [(64, 64), (96, 64), (128, 72)])
def test_as_many_crops_come_as_turns_are_asked_for(side: int, crop: int) -> None:
    for count in (1, 5):
        turns = torch.zeros(3, count, dtype=torch.int64)
        found = draw_crops(pixels(random_frames(3, side)), turns, CropSettings(side=crop), seeded())
        assert found.shape == (3, count, 3, crop, crop)
        assert found.dtype == torch.float32


@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
def test_each_crop_is_a_cut_of_its_normalised_frame_mirrored_and_turned(flip: float) -> None:
    frames = random_frames(3)
    crops = cropped(frames, CropSettings(side=64, flip=flip))
    places, mirrored = set(), []
    for b, frame in enumerate(frames):
        for k in range(8):
            upright = np.rot90(crops[b, k], -k)
            plain, swapped = (find(crop, standardised(frame)) for crop in (upright, np.fliplr(upright)))
            assert (plain is None) != (swapped is None)
            mirrored.append(plain is None)
            places.add(plain or swapped)
    assert len(places) > 12, "each of the 24 is drawn anew"  # many end up at the frame's edge
    assert set(mirrored) == {0.0: {False}, 0.5: {False, True}, 1.0: {True}}[flip]


def test_a_crop_of_the_whole_frame_is_that_frame() -> None:
    frames = random_frames(2, 64)
    crops = cropped(frames, CropSettings(side=64, flip=0), turns=(3, 0, 1, 2, 2))
    for b, frame in enumerate(frames):
        for k, r in enumerate((3, 0, 1, 2, 2)):
            np.testing.assert_allclose(crops[b, k], np.rot90(standardised(frame), r), atol=1e-5)


def test_the_generator_alone_decides() -> None:
    frames, settings = random_frames(2), CropSettings(side=64)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = cropped(frames, settings)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert np.array_equal(first, cropped(frames, settings))
    assert not np.array_equal(first, cropped(frames, settings, seed=1))


def test_crops_lie_where_something_is_to_be_seen() -> None:
    """A patch of texture in a corner of flat frames: a crop drawn evenly rarely shows it."""
    frames = np.full((12, 256, 256, 3), 100, np.uint8)
    frames[:, 16:48, 192:224] = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3))

    def share_showing_it(focus: float) -> float:
        crops = cropped(frames, CropSettings(side=64, focus=focus))
        return float((crops.std(axis=(2, 3, 4)) > 0.1).mean())

    assert share_showing_it(1) > 0.8
    assert share_showing_it(0.95) > 0.6
    assert share_showing_it(0) < 0.35


def test_flat_frames_can_be_cropped_too() -> None:
    frames = np.full((2, 128, 128, 3), 40, np.uint8)
    assert not cropped(frames, CropSettings(side=64, focus=1)).any()


def test_without_strength_the_light_stays() -> None:
    crops = torch.randn(6, 3, 64, 64, generator=seeded(5))
    assert torch.equal(relight(crops, 0, seeded()), crops)


def planes(pictures: Tensor) -> tuple[Array, Array]:
    """(N, 3) offset, downward and rightward tilt of each picture's light, and (N,) the deviation from that plane."""
    count, side = len(pictures), pictures.shape[-1]
    ramp = np.linspace(-1, 1, side)
    down, right = (axis.ravel() for axis in np.meshgrid(ramp, ramp, indexing="ij"))
    basis = np.stack([np.ones(side**2), down, right], axis=1)
    values = pictures[:, 0].reshape(count, -1).numpy().T
    found = np.linalg.lstsq(basis, values, rcond=None)[0]
    return found.T, (values - basis @ found).std(axis=0)


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_the_light_changes_by_as_much_as_its_words_say(strength: float) -> None:
    count = 300
    dark = torch.zeros(count, 3, 64, 64)
    light = relight(dark, strength, seeded())
    assert torch.equal(light[:, 0], light[:, 1])
    assert torch.equal(light[:, 0], light[:, 2])
    fitted, grain = planes(light)
    for values, largest in zip(fitted.T, (0.25, 0.3, 0.3), strict=True):
        assert np.abs(values).max() == pytest.approx(strength * largest, rel=0.05)
        assert values.mean() == pytest.approx(0, abs=0.1 * strength * largest)
    assert grain.max() == pytest.approx(strength * 0.04, rel=0.06)
    assert grain.mean() == pytest.approx(strength * 0.02, rel=0.15)

    gains = (relight(dark + 1, strength, seeded()) - light).numpy()
    np.testing.assert_allclose(gains, np.broadcast_to(gains[:, :1, :1, :1], gains.shape), atol=1e-5)
    logarithms = np.log(gains[:, 0, 0, 0])
    assert np.abs(logarithms).max() == pytest.approx(strength * 0.25, rel=0.05)
    assert logarithms.mean() == pytest.approx(0, abs=0.03 * strength)


def test_each_crop_gets_light_of_its_own_and_the_generator_alone_decides() -> None:
    crops = torch.randn(1, 3, 64, 64, generator=seeded(5)).expand(8, -1, -1, -1)
    before = crops.clone()
    found = relight(crops, 1, seeded(3))
    assert torch.equal(crops, before)
    assert len({picture.numpy().tobytes() for picture in found}) == 8
    assert torch.equal(found, relight(crops, 1, seeded(3)))
    assert not torch.equal(found, relight(crops, 1, seeded(4)))
    assert math.isfinite(found.sum().item())
