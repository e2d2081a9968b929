from __future__ import annotations

import itertools
from collections import Counter

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

import quarterturn.trainer.paste
from quarterturn.trainer.anomalies import FILLS, SHAPES, Dice, add_anomalies, pool, smooth
from quarterturn.trainer.config import PasteSettings
from quarterturn.trainer.paste import activity, paste, relight, visible

Array = npt.NDArray[np.float64]

DEFAULT = PasteSettings()
KINDS = list(itertools.product(SHAPES, FILLS))
COPYING = ("cut",)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def textured(count: int, side: int = 64, *, grey: bool = False) -> Tensor:
    """(count, 3, side, side), each normalised: coarse structure and fine."""
    generator, channels = seeded(7), 1 if grey else 3
    coarse = torch.randn(count, channels, side // 8, side // 8, generator=generator).repeat_interleave(8, -1)
    crops = coarse.repeat_interleave(8, -2) + torch.randn(count, channels, side, side, generator=generator)
    crops = (crops - crops.mean(dim=(1, 2, 3), keepdim=True)) / crops.std(dim=(1, 2, 3), keepdim=True)
    return crops.expand(-1, 3, -1, -1).clone()


def touched(before: Tensor, after: Tensor) -> list[bool]:
    return [not torch.equal(*pair) for pair in zip(before, after, strict=True)]


def one_defect(crops: Tensor, donors: Tensor, kind: tuple[str, str]) -> Tensor:
    centres = torch.full((len(crops), 2), 16.0)
    dice = Dice(seeded(), len(crops), crops.device)
    return add_anomalies(crops, donors, centres, shape=kind[0], fill=kind[1], size=(4, 8), dice=dice)


@pytest.mark.parametrize("side", [32, 48, 64, 72, 88, 128, 256])
@pytest.mark.parametrize("count", [0, 1, 2, 19])
def test_gives_a_copy_of_the_same_form(count: int, side: int) -> None:
    crops = textured(19, side)[:count].clone()
    original = crops.clone()
    pasted = paste(crops.requires_grad_(), PasteSettings(rounds=3), seeded())
    assert pasted.shape == crops.shape
    assert pasted.dtype == torch.float32
    assert pasted.isfinite().all()
    assert not pasted.requires_grad
    assert torch.equal(crops, original)
    assert all(touched(original, pasted))


def test_the_generator_alone_decides() -> None:
    crops = textured(12, 128)
    torch.manual_seed(1)
    first = paste(crops, DEFAULT, seeded(3))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(first, paste(crops, DEFAULT, seeded(3)))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())
    assert all(touched(first, paste(crops, DEFAULT, seeded(4))))


def changed_share(settings: PasteSettings) -> float:
    crops = textured(32, 128)
    return ((paste(crops, settings, seeded()) - crops).abs().amax(dim=1) > 0.02).double().mean().item()


def test_settings_confine_the_change() -> None:
    small = changed_share(PasteSettings(rounds=1, size=(3, 6)))
    assert 0 < small < 0.03
    assert changed_share(PasteSettings(rounds=4, size=(3, 6))) > 2 * small
    assert changed_share(PasteSettings(rounds=1, size=(30, 40))) > 4 * small


def test_defects_lie_where_something_is_to_be_seen() -> None:
    """Drawn evenly, three quarters of the changes would lie outside of the textured quarter."""
    crops = torch.zeros(48, 3, 128, 128)
    crops[:, :, :64, :64] = textured(48)
    changed = (paste(crops, PasteSettings(rounds=1, size=(3, 6)), seeded()) - crops).abs().amax(dim=1) > 0.1
    inside = (changed[:, :64, :64].sum() / changed.sum()).item()
    assert 0.75 < inside < 1, "flat places come up, too"


def test_grey_crops_stay_grey() -> None:
    pasted = paste(textured(16, 128, grey=True), DEFAULT, seeded())
    assert torch.equal(pasted[:, 0], pasted[:, 1])
    assert torch.equal(pasted[:, 0], pasted[:, 2])


def test_the_donor_is_another_crop() -> None:
    crops = torch.cat([textured(1, grey=True), textured(1)])
    grey = [paste(crops, DEFAULT, seeded(seed))[0] for seed in range(8)]
    assert any((crop - crop[0]).abs().max() > 0.1 for crop in grey), "colour comes from the other one alone"


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_channels_are_treated_alike_and_only_copies_bring_colour(kind: tuple[str, str]) -> None:
    crops, donors = textured(4, grey=True), textured(5, grey=True)[1:]
    found = one_defect(crops, donors, kind)
    alone = one_defect(crops[:, :1], donors[:, :1], kind)
    torch.testing.assert_close(found, alone.expand(-1, 3, -1, -1), atol=1e-5, rtol=0)
    coloured = one_defect(crops, textured(4), kind)
    grey = (coloured - coloured[:, :1]).abs().max().item() < 1e-5
    assert grey == (kind[1] not in COPYING)


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_every_shape_takes_every_fill_and_stays_about_its_place(kind: tuple[str, str]) -> None:
    crops = textured(1, 128).expand(6, -1, -1, -1).contiguous()
    original = crops.clone()
    change = (one_defect(crops, textured(2, 128)[1:].expand_as(crops), kind) - crops).abs().amax(dim=1)
    assert torch.equal(crops, original)
    assert change.isfinite().all()
    assert (change[:, :40, :40].amax(dim=(1, 2)) > 0.02).sum() >= 4  # a cloud may come out empty
    assert change[:, 64:].max() < 0.01
    assert change[:, :, 64:].max() < 0.01
    assert len({row.numpy().tobytes() for row in change}) == 6, "each crop has its own defect"


@pytest.mark.parametrize(("shape", "expected"), [("rectangle", 16**2), ("blob", 13 / 12 * np.pi / 4 * 16**2)])
def test_size_is_the_side_or_the_diameter(shape: str, expected: float) -> None:
    """A radius of 1 - u n, u even in 0 to 0.5 and n of unit variance, makes a blob larger by E[u²] = 1/12."""
    dice = Dice(seeded(), 400, torch.device("cpu"))
    offsets = torch.arange(96.0) - 48
    mask = SHAPES[shape](dice, offsets.view(1, 1, -1, 1), offsets.view(1, 1, 1, -1), (16, 16))
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert (mask > 0.5).sum(dim=(1, 2, 3)).double().mean().item() == pytest.approx(expected, rel=0.06)


def test_a_line_is_long_and_thin() -> None:
    dice = Dice(seeded(), 200, torch.device("cpu"))
    offsets = torch.arange(128.0) - 64
    mask = SHAPES["line"](dice, offsets.view(1, 1, -1, 1), offsets.view(1, 1, 1, -1), (20, 20))[:, 0] > 0.3
    rows, columns = mask.any(dim=2).sum(dim=1), mask.any(dim=1).sum(dim=1)
    longest = torch.hypot(rows.double(), columns.double())
    assert 35 < longest.mean() < 70  # 40 to 60 px, give or take its ends and its bends
    assert (mask.sum(dim=(1, 2)) / longest).median() < 4.5


def gaussian(crops: Tensor, sigma: float) -> np.ndarray:
    """(N, S, S, 3)."""
    side = 2 * round(2.5 * sigma) + 1
    blur = [cv2.GaussianBlur(crop, (side, side), sigma) for crop in crops.permute(0, 2, 3, 1).numpy()]
    return np.stack(blur)


@pytest.mark.parametrize("sigma", [0.6, 1.0, 1.7])
def test_smooth_is_a_gaussian(sigma: float) -> None:
    crops = textured(2)
    np.testing.assert_allclose(smooth(crops, sigma).permute(0, 2, 3, 1), gaussian(crops, sigma), atol=1e-5)


@pytest.mark.parametrize("sigma", [2.0, 3.0, 5.0, 9.0])
def test_a_coarse_smooth_is_a_gaussian_but_for_a_few_percent(sigma: float) -> None:
    crops = textured(2, 128)
    expected = gaussian(crops, sigma)[:, 16:-16, 16:-16]  # at the edge, the coarse one reflects coarser pixels
    found = smooth(crops, sigma).permute(0, 2, 3, 1)[:, 16:-16, 16:-16].numpy()
    assert (found - expected).std() < 0.07 * expected.std()


def test_pool_takes_means_of_squares() -> None:
    crops = textured(2, 64)
    expected = crops.numpy().reshape(2, 3, 16, 4, 16, 4).mean(axis=(3, 5))
    np.testing.assert_allclose(pool(crops, 4).numpy(), expected, atol=1e-6)


def test_no_change_is_not_visible() -> None:
    crops = textured(3)
    assert torch.equal(visible(crops, crops, 8), torch.zeros(3, 8, 8))


@pytest.mark.parametrize("cell", [4, 8, 16])
def test_a_strong_change_is_visible_in_its_cell_alone(cell: int) -> None:
    before = textured(2)
    after = before.clone()
    after[0, :, 2 * cell : 2 * cell + 2, 3 * cell : 3 * cell + 2] += 8  # a corner is enough
    expected = torch.zeros(2, 64 // cell, 64 // cell)
    expected[0, 2, 3] = 1
    assert torch.equal(visible(before, after, cell), expected)


@pytest.mark.parametrize(
    ("contrast", "change", "expected"),
    [
        (0.0, 0.06, 1),  # visible from 0.05 on where there is no texture
        (0.0, 0.04, -1),
        (0.0, 0.01, 0),
        (1.0, 0.60, 1),  # from 0.35 · (1.5 · 80/81 + 0.05/0.35) = 0.568 on
        (1.0, 0.53, -1),
        (1.0, 0.18, -1),  # from 0.162 on
        (1.0, 0.14, 0),
        (1.0, 0.06, 0),
    ],
)
def test_the_local_texture_decides_what_is_visible(contrast: float, change: float, expected: int) -> None:
    """A chequerboard of 2 px fields: at half resolution each differs from the mean around by 80/81 of its level."""
    fields = torch.arange(64) // 2
    board = contrast * (1 - 2.0 * ((fields[:, None] + fields) % 2))
    before = board.expand(1, 3, 64, 64).clone()
    after = before.clone()
    after[:, :, 24:32, 32:40] -= change
    found = visible(before, after, 8)[0]
    assert found[3, 4].item() == expected
    found[3, 4] = 0
    assert not found.any()


def test_activity_is_highest_on_the_textured_patch() -> None:
    frames = torch.full((2, 3, 96, 160), 3.0)
    frames[0, :, 24:36, 100:120] += textured(1)[0, :, :12, :20]
    found = activity(frames, 8)
    assert found.shape == (2, 8, 8)
    assert found.min() >= 0
    assert divmod(int(found[0].argmax()), 8) == (2, 5)
    assert found[0, 5:].max() < 1e-5
    assert found[0, :, :3].max() < 1e-5
    assert found[1].max() < 1e-5
    torch.testing.assert_close(activity(2 * frames, 8), 2 * found)


def test_all_kinds_of_defect_come_up_about_as_often_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: Counter[tuple[str, str]] = Counter()

    def note(before: Tensor, *_: object, shape: str, fill: str, **__: object) -> Tensor:
        drawn[shape, fill] += 1
        return before.clone()

    monkeypatch.setattr(quarterturn.trainer.paste, "add_anomalies", note)
    paste(textured(8), PasteSettings(rounds=400), seeded())
    assert {fill for _, fill in drawn} == {*FILLS}
    assert {shape for shape, _ in drawn} == {*SHAPES}
    assert drawn["line", "shade"] / drawn["line", "cut"] == pytest.approx(3, rel=0.3)


def planes(pictures: Tensor) -> tuple[Array, Array]:
    """(N, 3) offset, downward and rightward tilt of each picture's light, and (N,) the deviation from that plane."""
    count, side = len(pictures), pictures.shape[-1]
    ramp = np.linspace(-1, 1, side)
    down, right = (axis.ravel() for axis in np.meshgrid(ramp, ramp, indexing="ij"))
    basis = np.stack([np.ones(side**2), down, right], axis=1)
    values = pictures[:, 0].reshape(count, -1).numpy().T
    found = np.linalg.lstsq(basis, values, rcond=None)[0]
    return found.T, (values - basis @ found).std(axis=0)


def test_the_light_changes_by_as_much_as_its_words_say() -> None:
    dark = torch.zeros(300, 3, 64, 64)
    light = relight(dark, seeded())
    assert torch.equal(light[:, 0], light[:, 1])
    assert torch.equal(light[:, 0], light[:, 2])
    fitted, grain = planes(light)
    for values, largest in zip(fitted.T, (0.25, 0.3, 0.3), strict=True):
        assert np.abs(values).max() == pytest.approx(largest, rel=0.05)
        assert values.mean() == pytest.approx(0, abs=0.1 * largest)
    assert grain.max() == pytest.approx(0.04, rel=0.06)
    assert grain.mean() == pytest.approx(0.02, rel=0.15)

    gains = (relight(dark + 1, seeded()) - light).numpy()
    np.testing.assert_allclose(gains, np.broadcast_to(gains[:, :1, :1, :1], gains.shape), atol=1e-5)
    logarithms = np.log(gains[:, 0, 0, 0])
    assert np.abs(logarithms).max() == pytest.approx(0.25, rel=0.05)
    assert logarithms.mean() == pytest.approx(0, abs=0.03)
    correlations = np.corrcoef([*fitted.T, grain, logarithms]) - np.eye(5)
    assert np.abs(correlations).max() < 0.2, "each is drawn on its own"


def test_each_picture_gets_light_of_its_own_and_the_generator_alone_decides() -> None:
    pictures = textured(1).expand(8, -1, -1, -1)
    before = pictures.clone()
    found = relight(pictures, seeded(3))
    assert torch.equal(pictures, before)
    assert len({picture.numpy().tobytes() for picture in found}) == 8
    assert torch.equal(found, relight(pictures, seeded(3)))
    assert not torch.equal(found, relight(pictures, seeded(4)))
