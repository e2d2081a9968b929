from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch

from quarterturn.trainer.augment import augment, draw_colours, draw_crops, recolour
from quarterturn.trainer.config import AugmentSettings

PLAIN = AugmentSettings(crop=(1.0, 1.0), flip=0, jitter=0, grey=0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frames(count: int, side: int = 12) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def augmented(pictures: np.ndarray, settings: AugmentSettings, seed: int = 0) -> np.ndarray:
    """(2, B, 4, S, S, 3)."""
    views = augment(torch.from_numpy(pictures).permute(0, 3, 1, 2), settings, seeded(seed))
    return views.unflatten(1, (len(pictures), 4)).permute(0, 1, 2, 4, 5, 3).numpy()


@pytest.mark.parametrize("mirrored", [False, True])
def test_turns_as_rot90_does_after_mirroring(mirrored: bool) -> None:
    pictures = frames(3)
    found = augmented(pictures, PLAIN.model_copy(update={"flip": float(mirrored)}))
    for b, picture in enumerate(pictures):
        for r in range(4):
            expected = np.rot90(np.fliplr(picture) if mirrored else picture, r)
            for view in (0, 1):
                np.testing.assert_allclose(found[view, b, r], expected, atol=0.01)


def test_all_eight_views_of_a_picture_differ_and_the_generator_decides_how() -> None:
    picture = np.tile(frames(1), (2, 1, 1, 1))
    settings = AugmentSettings(jitter_share=1)
    found = augmented(picture, settings)
    unturned = [np.rot90(found[a, b, r], -r) for a in (0, 1) for b in (0, 1) for r in range(4)]
    assert len({view.tobytes() for view in unturned}) == 16
    assert np.array_equal(found, augmented(picture, settings))
    assert not np.array_equal(found, augmented(picture, settings, seed=1))


@pytest.mark.parametrize(("views", "side"), [(1, 6), (3, 12), (2, 4), (5, 18)])
def test_there_are_as_many_views_of_such_a_side_as_asked_for(views: int, side: int) -> None:
    pictures = torch.from_numpy(frames(3)).permute(0, 3, 1, 2)
    found = augment(pictures, AugmentSettings(), seeded(), views, side)
    assert found.shape == (views, 12, 3, side, side)
    assert found.dtype == torch.float32
    assert len({view.numpy().tobytes() for view in found.flatten(0, 1)}) == 12 * views


def test_a_view_of_half_the_side_shows_the_means_of_four_pixels() -> None:
    pictures = frames(2)
    found = augment(torch.from_numpy(pictures).permute(0, 3, 1, 2), PLAIN, seeded(), 1, 6)[0].permute(0, 2, 3, 1)
    means = pictures.reshape(2, 6, 2, 6, 2, 3).mean(axis=(2, 4))
    for b, picture in enumerate(means):
        for r in range(4):
            np.testing.assert_allclose(found[4 * b + r], np.rot90(picture, r), atol=0.01)


def test_crops_lie_inside_and_have_the_area_and_ratio_asked_for() -> None:
    maps = draw_crops(4000, AugmentSettings(crop=(0.3, 0.9)), seeded())
    width, height = maps[:, 0, 0].abs(), maps[:, 1, 1]
    area = width * height
    assert area.min() >= 0.3 - 1e-6
    assert area.max() <= 0.9 + 1e-6
    assert area.mean().item() == pytest.approx(0.6, abs=0.01)
    assert (width / height).max() <= 4 / 3 + 1e-5
    assert (height / width).max() <= 4 / 3 + 1e-5
    for size, shift in ((width, maps[:, 0, 2]), (height, maps[:, 1, 2])):
        assert (size + shift.abs()).max() <= 1 + 1e-6
    assert (maps[:, 0, 0] < 0).double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_a_crop_is_the_enlarged_part_of_the_picture() -> None:
    side = 16
    ramp = np.zeros((1, side, side, 3), np.uint8)
    ramp[..., 0] = np.arange(side) * 10  # red tells the column
    ramp[..., 1] = np.arange(side)[:, None] * 10  # green tells the row
    settings = AugmentSettings(crop=(0.25, 0.25), flip=0, jitter=0, grey=0)
    maps = draw_crops(8, settings, seeded())
    found = augmented(ramp, settings)[0, 0, 0]
    width, x = maps[0, 0, 0].item(), maps[0, 0, 2].item()
    height, y = maps[0, 1, 1].item(), maps[0, 1, 2].item()
    centres = (np.arange(side) + 0.5) / side * 2 - 1
    columns = ((centres * width + x + 1) / 2 * side - 0.5).clip(0, side - 1)
    rows = ((centres * height + y + 1) / 2 * side - 0.5).clip(0, side - 1)
    np.testing.assert_allclose(found[..., 0], np.tile(columns * 10, (side, 1)), atol=0.02)
    np.testing.assert_allclose(found[..., 1], np.tile(rows[:, None] * 10, (1, side)), atol=0.02)


def test_colours_are_dropped_and_kept_as_often_as_asked() -> None:
    settings = AugmentSettings(jitter_share=0.8, grey=0.2)
    matrices, offsets = draw_colours(4000, settings, seeded())
    colourless = (matrices - matrices[:, :1]).abs().amax(dim=(1, 2)) < 1e-5
    untouched = (matrices - torch.eye(3)).abs().amax(dim=(1, 2)) < 1e-5
    assert colourless.double().mean().item() == pytest.approx(0.2, abs=0.02)
    assert untouched.double().mean().item() == pytest.approx(0.2 * 0.8, abs=0.02)
    assert not offsets[untouched].any()


def test_jitter_does_what_its_words_say() -> None:
    """Brightness, contrast, saturation and hue one after the other on one pixel, against the single matrix."""
    pixel = np.array([0.5, 0.3, 0.4])
    picture = torch.from_numpy(pixel * 255).float().view(1, 3, 1, 1).repeat(1, 1, 2, 2)
    settings = AugmentSettings(jitter=0.5, jitter_share=1, grey=0)
    luma = np.array([0.299, 0.587, 0.114])
    for seed in range(20):
        draws = torch.rand(6, 1, generator=seeded(seed)).flatten().numpy()
        brightness, contrast, saturation = 1 + 0.4 * (2 * draws[:3] - 1)
        expected = pixel * brightness
        expected = contrast * expected + (1 - contrast) * (luma @ expected)  # every pixel is as bright as the mean
        expected = saturation * expected + (1 - saturation) * (luma @ expected)
        y, i, q = colorsys.rgb_to_yiq(*expected)
        hue = (i + 1j * q) * np.exp(2j * np.pi * 0.1 * (2 * draws[3] - 1))
        found = recolour(picture, *draw_colours(1, settings, seeded(seed)))[0, :, 0, 0].numpy() / 255
        np.testing.assert_allclose(colorsys.rgb_to_yiq(*found), [y, hue.real, hue.imag], atol=0.01)


def test_grey_pictures_stay_grey() -> None:
    pictures = np.repeat(frames(2)[..., :1], 3, axis=-1)
    found = augmented(pictures, AugmentSettings())
    assert found.min() >= 0
    assert found.max() <= 255
    np.testing.assert_allclose(found, found[..., :1].repeat(3, axis=-1), atol=0.05)
