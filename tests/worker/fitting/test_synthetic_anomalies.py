from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterturn.worker.fitting import synthetic_anomalies
from quarterturn.worker.fitting.synthetic_anomalies import KINDS, paste_all, paste_anomaly

Picture = npt.NDArray[np.uint8]
sides = st.integers(16, 150)


def textured(height: int, width: int, seed: int = 0, strength: float = 12.0) -> Picture:
    noise = np.random.default_rng(seed).normal(0, 4 * strength, (height, width, 3)).astype(np.float32)
    return np.clip(128 + cv2.GaussianBlur(noise, (0, 0), 1.5), 0, 255).astype(np.uint8)


def flat(height: int, width: int, grey: int) -> Picture:
    return np.full((height, width, 3), grey, np.uint8)


def changed(before: Picture, after: Picture) -> npt.NDArray[np.float64]:
    return np.abs(before.astype(float) - after).mean(axis=2)


@given(sides, sides, sides, st.sampled_from(["black", "white", "grey", "textured", "checks"]), st.integers(0, 10_000))
def test_every_picture_gets_one_small_defect_that_is_really_there(
    height: int, width: int, donor_side: int, surface: str, seed: int
) -> None:
    checks = np.indices((height, width)).sum(axis=0) % 2 * 255
    picture = {
        "black": flat(height, width, 0),
        "white": flat(height, width, 255),
        "grey": flat(height, width, 128),
        "textured": textured(height, width, seed),
        "checks": np.repeat(checks[..., None], 3, axis=2).astype(np.uint8),
    }[surface]
    original = picture.copy()
    pasted, mask = paste_anomaly(picture, textured(donor_side, donor_side, seed + 1), np.random.default_rng(seed))
    np.testing.assert_array_equal(picture, original)
    assert (pasted.shape, pasted.dtype) == (picture.shape, np.uint8)
    assert (mask.shape, mask.dtype) == ((height, width), np.bool_)
    assert changed(picture, pasted)[mask].mean() >= 3
    rows, columns = np.nonzero(mask)
    longest = max(0.45 * min(height, width), 8)  # px: the longest scratch, or the smallest window
    assert max(np.ptp(rows), np.ptp(columns)) < longest
    near = np.zeros((height, width), np.bool_)
    margin = int(longest)
    near[max(rows.min() - margin, 0) : rows.max() + margin, max(columns.min() - margin, 0) : columns.max() + margin] = 1
    assert not changed(picture, pasted)[~near].any()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic_anomalies, "KINDS", {kind: KINDS[kind]})
    monkeypatch.setattr(synthetic_anomalies, "_PLAIN", None)  # falling back would fail
    picture, donor = textured(200, 240), textured(160, 160, seed=1)
    for seed in range(50):
        pasted, mask = paste_anomaly(picture, donor, np.random.default_rng(seed))
        change = changed(picture, pasted)
        assert change[mask].mean() > 3 * change[~mask].mean()
        assert change[mask].mean() <= 80
        assert 3 <= mask.sum() <= 0.06 * mask.size


def test_every_kind_comes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    painted: set[str] = set()

    def noting(name: str, kind: synthetic_anomalies._Kind) -> synthetic_anomalies._Kind:
        def paint(site: synthetic_anomalies._Site, rng: np.random.Generator) -> synthetic_anomalies._Painted:
            painted.add(name)
            return kind.paint(site, rng)

        return synthetic_anomalies._Kind(paint, kind.sizes)

    monkeypatch.setattr(synthetic_anomalies, "KINDS", {name: noting(name, kind) for name, kind in KINDS.items()})
    paste_all([textured(64, 64)] * 60, seed=0)
    assert painted == set(KINDS)


def test_a_donor_gives_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic_anomalies, "KINDS", {"patch": KINDS["patch"]})
    picture = flat(100, 100, 100)
    redder = 0
    for seed in range(20):
        pasted, mask = paste_anomaly(picture, np.array([[[160, 100, 100]]], np.uint8), np.random.default_rng(seed))
        redder += bool((pasted[mask][:, 0] > pasted[mask][:, 1].astype(int) + 5).all())
    assert redder == 20


def test_a_grey_picture_stays_grey() -> None:
    greys = [np.repeat(textured(90, 70, seed)[..., :1], 3, axis=2) for seed in range(60)]
    for pasted, _ in paste_all(greys, seed=0):
        np.testing.assert_array_equal(pasted[..., 0], pasted[..., 1])
        np.testing.assert_array_equal(pasted[..., 0], pasted[..., 2])


def test_defects_prefer_the_part_to_a_flat_background() -> None:
    picture = flat(200, 200, 180)
    picture[80:120, 40:160] = textured(40, 120)  # 12 % of the area
    centres = [
        np.argwhere(paste_anomaly(picture, picture, np.random.default_rng(seed))[1]).mean(axis=0) for seed in range(200)
    ]
    on_part = sum(75 <= y <= 125 and 35 <= x <= 165 for y, x in centres)
    assert 90 <= on_part <= 190


def test_defects_of_a_flat_picture_lie_everywhere() -> None:
    picture = flat(120, 120, 100)
    seen = sum(paste_anomaly(picture, picture, np.random.default_rng(seed))[1].astype(int) for seed in range(400))
    quarters = [np.sum(seen[y : y + 60, x : x + 60]) for y in (0, 60) for x in (0, 60)]
    assert min(quarters) > 0.15 * sum(quarters)


def test_contrast_follows_the_place() -> None:
    means = []
    for strength in (2.0, 12.0):
        pictures = [textured(128, 128, seed, strength) for seed in range(60)]
        pasted = paste_all(pictures, seed=0)
        changes = [
            changed(picture, after)[mask].mean() for picture, (after, mask) in zip(pictures, pasted, strict=True)
        ]
        means.append(float(np.mean(changes)))
    assert 5 < means[0] < 0.7 * means[1]
    assert means[1] < 35


def test_the_same_seed_pastes_the_same() -> None:
    pictures = [textured(40 + 5 * n, 60, n) for n in range(5)]
    first, again, other = (paste_all(pictures, seed) for seed in (7, 7, 8))
    for (picture, mask), (picture_again, mask_again) in zip(first, again, strict=True):
        np.testing.assert_array_equal(picture, picture_again)
        np.testing.assert_array_equal(mask, mask_again)
    assert any((one[1] != two[1]).any() for one, two in zip(first, other, strict=True))


def test_donors_are_other_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[tuple[int, int]] = []

    def note(picture: Picture, donor: Picture, _: np.random.Generator) -> tuple[Picture, npt.NDArray[np.bool_]]:
        pairs.append((int(picture[0, 0, 0]), int(donor[0, 0, 0])))
        return picture, np.zeros(picture.shape[:2], np.bool_)

    monkeypatch.setattr(synthetic_anomalies, "paste_anomaly", note)
    paste_all([flat(16, 16, n) for n in range(40)], seed=0)
    assert [own for own, _ in pairs] == list(range(40))
    assert all(own != donor for own, donor in pairs)
    assert len({donor for _, donor in pairs}) > 15
    paste_all([flat(16, 16, 99)], seed=0)
    assert pairs[-1] == (99, 99)
    assert paste_all([], seed=0) == []
