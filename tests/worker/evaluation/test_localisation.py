from __future__ import annotations

import itertools
from collections import deque

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from quarterturn.worker.evaluation.localisation import aupro, peak_in_mask, pixel_auroc

Map = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def random_set(seed: int, count: int = 4, levels: int = 6) -> tuple[list[Map], list[Mask]]:
    """Maps of the masks' own sizes, with many ties, and rather more heat on the masks; the last part is good."""
    rng = np.random.default_rng(seed)
    shapes = [tuple(rng.integers(3, 12, 2)) for _ in range(count)]
    masks = [rng.random(shape) < 0.25 for shape in shapes]
    masks[0][0, 0], masks[0][-1, -1], masks[-1][:] = True, False, False
    maps = [(rng.integers(0, levels, mask.shape) + 2 * mask * rng.random()).astype(np.float32) for mask in masks]
    return maps, masks


def regions_by_hand(mask: Mask) -> list[list[tuple[int, int]]]:
    """Flood fill over the eight neighbours."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    regions = []
    while left:
        queue, region = deque([left.pop()]), []
        while queue:
            y, x = queue.popleft()
            region.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            queue.extend(near)
        regions.append(region)
    return regions


def aupro_by_hand(maps: list[Map], masks: list[Mask], limit: float) -> float:
    """Every threshold in turn, then the trapezoids, the last one cut at the limit."""
    good = [float(value) for heat, mask in zip(maps, masks, strict=True) for value in heat[~mask]]
    regions = [
        [float(heat[place]) for place in region]
        for heat, mask in zip(maps, masks, strict=True)
        for region in regions_by_hand(mask)
    ]
    points = [(0.0, 0.0)]
    for threshold in sorted({float(value) for heat in maps for value in heat.ravel()}, reverse=True):
        rate = sum(value >= threshold for value in good) / len(good)
        overlaps = [sum(value >= threshold for value in region) / len(region) for region in regions]
        points.append((rate, sum(overlaps) / len(overlaps)))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 < x1 and x0 < limit:
            end = min(x1, limit)
            y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
            area += (end - x0) * (y0 + y_end) / 2
    return area / limit


@given(st.integers(0, 100_000), st.sampled_from([2, 6, 1000]))
def test_pixel_auroc_agrees_with_scikit_learn(seed: int, levels: int) -> None:
    maps, masks = random_set(seed, levels=levels)
    expected = roc_auc_score(np.concatenate([m.ravel() for m in masks]), np.concatenate([h.ravel() for h in maps]))
    assert pixel_auroc(maps, masks) == pytest.approx(expected)


@given(st.integers(0, 100_000), st.sampled_from([2, 6, 1000]), st.sampled_from([0.05, 0.3, 1.0]))
def test_aupro_agrees_with_every_threshold_tried(seed: int, levels: int, limit: float) -> None:
    maps, masks = random_set(seed, levels=levels)
    assert aupro(maps, masks, limit) == pytest.approx(aupro_by_hand(maps, masks, limit))


def test_aupro_stops_at_three_tenths_unless_told_otherwise() -> None:
    maps, masks = random_set(3)
    assert aupro(maps, masks) == aupro(maps, masks, 0.3) != aupro(maps, masks, 0.2)


def test_a_perfect_map_an_empty_one_and_the_opposite() -> None:
    mask = np.zeros((20, 30), np.bool_)
    mask[3:6, 4:9] = mask[15:17, 20:22] = True
    for heat, auroc, overlap in [(mask, 1.0, 1.0), (np.zeros_like(mask), 0.5, 0.15), (~mask, 0.0, 0.0)]:
        assert pixel_auroc([heat.astype(np.float32)], [mask]) == pytest.approx(auroc)
        assert aupro([heat.astype(np.float32)], [mask]) == pytest.approx(overlap)


def test_a_small_defect_counts_as_much_as_a_large_one() -> None:
    mask = np.zeros((40, 40), np.bool_)
    mask[5:25, 5:25] = mask[35:37, 35:37] = True
    heat = np.zeros((40, 40), np.float32)
    heat[35:37, 35:37] = 1
    # Half of the regions are found without a false positive; the rest comes evenly with all pixels.
    assert aupro([heat], [mask]) == pytest.approx(0.5 + 0.5 * 0.3 / 2)


def test_nothing_to_measure_is_none() -> None:
    heat, none, all_bad = np.ones((4, 4), np.float32), np.zeros((8, 8), np.bool_), np.ones((8, 8), np.bool_)
    for figure in (pixel_auroc, aupro):
        assert figure([], []) is None
        assert figure([heat], [none]) is None
        assert figure([heat], [all_bad]) is None
    assert peak_in_mask([], []) is None
    assert peak_in_mask([heat], [none]) is None
    assert peak_in_mask([heat], [all_bad]) == 1.0


def test_good_parts_count_with_their_false_heat() -> None:
    maps, masks = random_set(5)
    hot = [*maps, np.full((10, 10), 99, np.float32)]
    cold = [*maps, np.full((10, 10), -99, np.float32)]
    more = [*masks, np.zeros((10, 10), np.bool_)]
    for figure in (pixel_auroc, aupro):
        worse, same, better = figure(hot, more), figure(maps, masks), figure(cold, more)
        assert worse is not None
        assert same is not None
        assert better is not None
        assert worse < same < better


def test_maps_of_any_grid_are_enlarged_to_the_mask() -> None:
    mask = np.zeros((60, 90), np.bool_)
    mask[20:40, 30:60] = True
    heat = np.zeros((6, 9), np.float32)
    heat[2:4, 3:6] = 1
    enlarged = cv2.resize(heat, (90, 60), interpolation=cv2.INTER_LINEAR)
    assert pixel_auroc([heat], [mask]) == pytest.approx(roc_auc_score(mask.ravel(), enlarged.ravel()))
    assert pixel_auroc([heat], [mask]) > 0.99  # type: ignore[operator]


def test_large_pictures_are_measured_at_256_px_and_thin_defects_survive() -> None:
    mask = np.zeros((1024, 600), np.bool_)
    mask[500, 100:400] = True  # 1 px of 1024
    heat = np.zeros((1024, 600), np.float32)
    heat[480:520, 80:420] = 1
    small_mask = mask.reshape(256, 4, 150, 4).any(axis=(1, 3))
    small_heat = heat.reshape(256, 4, 150, 4).mean(axis=(1, 3))
    expected = roc_auc_score(small_mask.ravel(), small_heat.ravel())
    assert pixel_auroc([heat], [mask]) == pytest.approx(expected)
    assert aupro([heat], [mask]) == pytest.approx(aupro_by_hand([small_heat], [small_mask], 0.3))


def peak_at(row: int, column: int, shape: tuple[int, int] = (8, 8)) -> Map:
    heat = np.random.default_rng(0).random(shape).astype(np.float32)
    heat[row, column] = 2
    return heat


@pytest.mark.parametrize(
    ("place", "hit"),
    [((29, 45), True), ((29, 40), True), ((20, 49), True), ((29, 39), False), ((19, 45), False), ((30, 45), False)],
)
def test_the_peak_may_lie_half_a_cell_beside_the_mask(place: tuple[int, int], hit: bool) -> None:
    mask = np.zeros((80, 80), np.bool_)
    mask[place] = True
    assert peak_in_mask([peak_at(2, 4)], [mask]) == float(hit)


def test_cells_that_cover_pixels_in_part() -> None:
    mask = np.zeros((10, 10), np.bool_)
    mask[3, 9] = True  # rows 3.33 to 6.67 belong to the middle cell, so it touches row 3
    maps = [peak_at(row, 2, (3, 3)) for row in range(3)]
    assert [peak_in_mask([heat], [mask]) for heat in maps] == [1.0, 1.0, 0.0]


def test_peaks_are_counted_on_defective_parts_alone() -> None:
    mask = np.zeros((16, 16), np.bool_)
    mask[4:6, 4:6] = True
    maps = [peak_at(2, 2), peak_at(2, 2), peak_at(7, 7), peak_at(0, 0)]
    assert peak_in_mask(maps, [mask, mask, mask, np.zeros_like(mask)]) == pytest.approx(2 / 3)


def test_a_map_without_its_mask_is_a_mistake() -> None:
    for figure in (pixel_auroc, aupro, peak_in_mask):
        with pytest.raises(ValueError, match="zip"):
            figure([peak_at(0, 0)], [])
