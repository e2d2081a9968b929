from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.covariance import OAS

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import ScoringSettings
from quarterturn.worker.contract.detectors import Coreset, Normal, from_products, supported
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.framing import WHOLE, Layout
from quarterturn.worker.contract.gaussians import Gaussian, stacked
from quarterturn.worker.contract.views import turn
from quarterturn.worker.inspection.scoring import (
    Appearance,
    aggregate,
    appearances,
    combine,
    emptiness,
    evidence,
    fit_scale,
    orientations,
    over_places,
    read,
    turn_ratio,
)
from tests.worker.inspection.embeddings import BOXED, FOUR, SPEC, TILED, Doubles, normal_of, parts, score_of

# Frames to readings, against loops over tiles, places and views.


def harmonic(values: Sequence[float]) -> float:
    return len(values) / sum(1 / value for value in values)


def distances_by_hand(detector: str, embeddings: Embeddings, tile: int, normal: Normal) -> Doubles:
    """(V, P) of one tile."""
    if detector == "learned":
        return np.maximum(embeddings["logits"][tile].astype(np.float64) + 20, 0)
    if detector == "frame":
        samples = embeddings["frame"][tile][:, None]
    else:
        depth = "deep" if detector == "position" else detector.removeprefix("nearest.")
        samples = embeddings[f"places.{depth}"][tile]
    model, found = normal[detector], np.empty(samples.shape[:2])
    for v, p in np.ndindex(found.shape):
        if isinstance(model, Coreset):
            found[v, p] = min(math.dist(samples[v, p], one) for one in model.members[v])
        else:
            difference = samples[v, p].astype(np.float64) - model.mean[v, p]
            found[v, p] = math.hypot(*(model.whitening[v, p] @ difference))
    return found


def stitched_by_hand(layout: Layout, by_tile: Sequence[Doubles]) -> Doubles:
    """(h, w) from T times (P,): each place is the mean of the tiles that see it."""
    grid = math.isqrt(len(by_tile[0]))
    if layout == WHOLE:
        return by_tile[0].reshape(grid, grid)
    cells = max(1, grid // 16)  # a unit
    whole = np.empty((layout.height * cells, layout.width * cells))
    for y, x in np.ndindex(whole.shape):
        seen = []
        for (row, column), values in zip(layout.corners, by_tile, strict=True):
            inside_y, inside_x = y - row * cells, x - column * cells
            if 0 <= inside_y < 16 * cells and 0 <= inside_x < 16 * cells:
                seen.append(values[inside_y * grid // (16 * cells) * grid + inside_x * grid // (16 * cells)])
        whole[y, x] = sum(seen) / len(seen)
    return whole


def worst_places(whole: Doubles, worst: float) -> float:
    count = max(1, round(worst * whole.size))
    return sum(sorted(whole.ravel())[-count:]) / count


ALL = ("learned", "nearest.deep", "frame", "position", "nearest.middle")


@pytest.mark.parametrize(
    "scoring", [ScoringSettings(), ScoringSettings(worst=0.1), ScoringSettings(worst=1.0)], ids=str
)
def test_frames_of_different_layouts_are_read_as_by_loops(scoring: ScoringSettings) -> None:
    """Every detector, in any order, on its own grid: harmonic means over the views, then a mean of the worst places."""
    rng = np.random.default_rng(1)
    assert set(ALL) == set(supported(SPEC))
    normals = [normal_of(one) for one in parts(rng, 20, products=2)]
    layouts = [WHOLE, TILED, BOXED, WHOLE]
    (embeddings,) = parts(rng, 6, products=1)
    found = read(embeddings, layouts, normals, scoring, ALL)
    assert len(found) == 4
    for reading, layout, first in zip(found, layouts, (0, 1, 4, 5), strict=True):
        assert (reading.raw.shape, reading.raw.dtype) == ((2, len(ALL)), np.float32)
        for c, normal in enumerate(normals):
            for k, detector in enumerate(ALL):
                together = []
                for tile in range(first, first + len(layout.corners)):
                    by_view = distances_by_hand(detector, embeddings, tile, normal)
                    together.append(np.array([harmonic(place.tolist()) for place in by_view.T]))
                whole = stitched_by_hand(layout, together)
                np.testing.assert_allclose(reading.maps[k][c], whole, rtol=2e-3, atol=1e-4)
                assert reading.raw[c, k] == pytest.approx(worst_places(whole, scoring.worst), rel=2e-3, abs=1e-4)


def test_each_detector_keeps_its_own_grid() -> None:
    """Of a whole frame; with another layout a unit is the coarsest."""
    normals = [normal_of(one) for one in parts(np.random.default_rng(0), 20, products=1)]
    (frames,) = parts(np.random.default_rng(1), 2, products=1)
    detectors = ("frame", "nearest.middle", "position", "learned")
    whole, boxed = read(frames, [WHOLE, BOXED], normals, ScoringSettings(), detectors)
    assert [one.shape for one in whole.maps] == [(1, 1, 1), (1, 4, 4), (1, 2, 2), (1, 32, 32)]
    assert [one.shape for one in boxed.maps] == [(1, 16, 9), (1, 16, 9), (1, 16, 9), (1, 32, 18)]
    assert whole.raw[0, 3] == pytest.approx(np.sort(whole.maps[3].ravel())[-20:].mean(), rel=1e-5)  # 2% of 1024
    assert whole.raw[0, 1] == whole.maps[1].max()  # one place at least


def self_ensemble(frame: Array, normal: Sequence[Embeddings]) -> tuple[float, int]:
    """Self-ensemble inference in plain Python: (score, predicted product)."""
    by_product = []
    for of_product in normal:
        views = []
        for v in range(4):
            gaussian = OAS().fit(of_product["frame"][:, v].astype(np.float64))
            difference = frame[v] - gaussian.location_
            views.append(math.sqrt(difference @ np.linalg.inv(gaussian.covariance_) @ difference))
        weights = [1 / distance for distance in views]
        by_product.append(sum(w * d for w, d in zip(weights, views, strict=True)) / sum(weights))
    return min(by_product), by_product.index(min(by_product))


def test_self_ensemble_inference() -> None:
    """The distance by `frame` alone is that of arXiv 2105.08793, and so is the appearance's."""
    rng = np.random.default_rng(3)
    normal = parts(rng, 40)
    (strange,) = parts(rng, 6, products=1)
    frames = {name: np.concatenate([normal[1][name][:2], strange[name]]) for name in strange}
    normals = [normal_of(one) for one in normal]
    found = read(frames, [WHOLE] * 8, normals, ScoringSettings(), ["frame"])
    whole = appearances(beside(frames["frame"], normals), [WHOLE] * 8)
    for frame, reading, seen in zip(frames["frame"], found, whole, strict=True):
        score, product = self_ensemble(frame, normal)
        assert reading.raw.shape == (3, 1)
        assert reading.raw.min() == pytest.approx(score, rel=1e-3)
        assert reading.raw.argmin() == seen.distance.argmin() == product
        np.testing.assert_allclose(seen.distance, reading.raw[:, 0], rtol=1e-4)
    assert [reading.raw.argmin() for reading in found[:2]] == [1, 1]


# Aggregation.

positive = st.lists(st.floats(0.01, 1000), min_size=1, max_size=8)


@given(positive)
def test_the_harmonic_mean_is_the_average_weighted_by_one_over_distance(values: list[float]) -> None:
    weights = [1 / value for value in values]
    weighted = sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)
    assert aggregate(np.array(values, np.float32), axis=-1) == pytest.approx(weighted, rel=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2])
def test_aggregation_over_any_axis_agrees_with_scipy(axis: int) -> None:
    values = np.random.default_rng(2).random((2, 3, 4, 5)).astype(np.float32) + np.float32(0.1)
    found = aggregate(values, axis)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, stats.hmean(values.astype(np.float64), axis=axis), rtol=1e-5)


def test_a_distance_of_zero_is_a_score_of_zero() -> None:
    with np.errstate(all="raise"):
        assert aggregate(np.array([0.0, 3.0], np.float32), axis=0) == pytest.approx(0, abs=1e-9)
        assert aggregate(np.zeros(4, np.float32), axis=0) == pytest.approx(0, abs=1e-9)


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=24), st.sampled_from([0.001, 0.01, 0.1, 0.5, 1.0]))
def test_the_worst_share_of_the_places_counts(values: list[float], worst: float) -> None:
    """Whatever the shape; one place at least, and all with a share of 1."""
    count = max(1, round(worst * len(values)))
    expected = math.fsum(sorted(values)[-count:]) / count
    maps = np.stack([np.array([values], np.float32), np.array([values[::-1]], np.float32)])  # (2, 1, n)
    found = over_places(maps, worst)
    assert (found.shape, found.dtype) == ((2,), np.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(over_places(maps.swapaxes(-1, -2), worst), expected, rtol=1e-4, atol=1e-4)


# Evidence.


@pytest.mark.parametrize("seed", range(4))
def test_the_scale_has_the_median_and_the_90_percent_quantile_of_good_frames(seed: int) -> None:
    raw = np.random.default_rng(seed).gamma(3.0, size=(199, 3)).astype(np.float32)
    scale = fit_scale(raw)
    assert (scale.shape, scale.dtype) == ((3, 2), np.float32)
    for k in range(3):
        ordered = sorted(raw[:, k].tolist())
        fitted = stats.logistic(loc=scale[k, 0], scale=scale[k, 1])
        assert fitted.cdf(ordered[99]) == pytest.approx(0.5, abs=1e-4)
        assert fitted.cdf(0.8 * ordered[178] + 0.2 * ordered[179]) == pytest.approx(0.9, abs=1e-4)  # rank 178.2


def test_a_scale_follows_its_unit_and_is_each_detectors_own() -> None:
    raw = np.random.default_rng(7).gamma(3.0, size=(50, 4)).astype(np.float32)
    median, spread = fit_scale(raw).T
    np.testing.assert_allclose(fit_scale(8 * raw + 16).T, [8 * median + 16, 8 * spread], rtol=1e-4)
    for k in range(4):
        np.testing.assert_array_equal(fit_scale(raw[:, [k]]), fit_scale(raw)[[k]])


@given(st.lists(st.floats(0, 1), min_size=10, max_size=10))
def test_the_spread_asks_nothing_of_the_frames_below_the_median(shares: list[float]) -> None:
    """Not how far they lie, nor whether they all are alike."""
    above = np.array([5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 25])
    (scale,) = fit_scale(np.append(5 * np.array(shares), above).astype(np.float32)[:, None])
    assert scale.tolist() == pytest.approx([5, 8 / math.log(9)])  # rank 18 of 0 to 20


def test_good_frames_that_are_all_alike_leave_a_scale() -> None:
    for value in (0.0, 3.0, 1e5):
        (scale,) = fit_scale(np.full((20, 1), value, np.float32))
        assert scale[0] == value
        assert 0 < scale[1] <= 1e-6 * max(1, value) * 1.001
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            at, beyond = evidence(np.array([value, value + 1], np.float32), scale)
            empty_at, empty = emptiness(np.array([value, value / 2], np.float32), scale)
        assert at == pytest.approx(math.log10(2), rel=1e-5)
        assert np.isfinite(beyond)
        assert beyond > at
        assert empty_at == pytest.approx(math.log10(1 + 1 / 999), rel=1e-4)
        assert np.isfinite(empty)
        assert (empty > empty_at) == (value > 0)  # nothing is nearer than 0


def test_good_frames_of_which_none_is_farther_than_the_median_leave_a_scale() -> None:
    """As many are as far from anything learned as can be."""
    (scale,) = fit_scale(np.minimum(np.arange(-10, 11), 0)[:, None].astype(np.float32) + 5)
    assert scale.tolist() == pytest.approx([5, 5e-6])


medians, spreads = st.floats(-10, 10), st.floats(0.05, 20)


@given(st.floats(-50, 200), medians, spreads)
def test_evidence_is_the_logarithm_of_the_share_beyond(value: float, median: float, spread: float) -> None:
    found = evidence(np.array([value], np.float32), np.array([median, spread], np.float32))
    expected = -stats.logistic.logsf(np.float32(value), np.float32(median), np.float32(spread)) / math.log(10)
    assert found.dtype == np.float32
    assert found[0] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_evidence_rises_evenly_beyond_what_was_ever_seen_and_never_overflows() -> None:
    with np.errstate(over="raise", invalid="raise"):
        far = evidence(np.array([-1e6, 0, 1e4, 2e4, 3e4], np.float32), np.array([0, 1], np.float32))
    assert far[0] == 0
    assert far[1] == pytest.approx(math.log10(2))
    assert far[2:] == pytest.approx(np.array([1, 2, 3]) * 1e4 / math.log(10), rel=1e-5)
    one_in_ten = evidence(np.array(math.log(9), np.float32), np.array([0, 1], np.float32))
    assert one_in_ten == pytest.approx(1, rel=1e-5)


# Emptiness.


def test_emptiness_by_hand() -> None:
    """Median 10, spread 2: its 0.1% quantile is 10 - 2 ln 999, and each 2 ln 10 less is one more."""
    lowest = 10 - 2 * math.log(999)
    values = [1e6, 10, lowest, lowest - 2 * math.log(9), lowest - 2 * math.log(99), lowest - 2 * math.log(999)]
    with np.errstate(over="raise", invalid="raise"):
        found = emptiness(np.array([*values, -1e6], np.float32), np.array([10, 2], np.float32))
    assert found.dtype == np.float32
    assert found[0] == 0
    assert found[1] == pytest.approx(math.log10(1000 / 999), rel=1e-4)
    assert found[2:6] == pytest.approx([math.log10(2), 1, 2, 3], rel=1e-4)
    assert found[6] == pytest.approx(1e6 / 2 / math.log(10), rel=1e-4)


distances_below = st.floats(-200, 50)


@given(distances_below, medians, spreads)
def test_emptiness_is_the_logarithm_of_the_share_below_from_one_in_a_thousand(
    value: float, median: float, spread: float
) -> None:
    found = emptiness(np.array([value], np.float32), np.array([median, spread], np.float32))
    good = stats.logistic(np.float32(median), np.float32(spread))
    expected = -stats.logistic(good.ppf(0.001), np.float32(spread)).logcdf(np.float32(value)) / math.log(10)
    assert (found.shape, found.dtype) == ((1,), np.float32)
    assert found[0] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    far_below = -good.logcdf(np.float32(value)) / math.log(10) - 3
    if far_below > 2:  # one in a hundred thousand: then it is the rarity itself, less that of one in a thousand
        assert found[0] == pytest.approx(far_below, rel=0.01, abs=0.01)


@given(st.lists(distances_below, min_size=2, max_size=20), medians, spreads)
def test_emptiness_falls_as_the_distance_rises_and_is_small_for_all_but_the_lowest_in_a_thousand(
    values: list[float], median: float, spread: float
) -> None:
    lowest = float(stats.logistic.ppf(0.001, median, spread))
    ordered = sorted([*values, lowest, median])
    found = emptiness(np.array(ordered, np.float32), np.array([median, spread], np.float32))
    assert (found >= 0).all()
    assert (np.diff(found) <= 1e-7).all()
    assert found[ordered.index(lowest)] == pytest.approx(math.log10(2), rel=1e-3)
    assert found[ordered.index(median)] == pytest.approx(math.log10(1000 / 999), rel=1e-3)
    for value, one in zip(ordered, found, strict=True):
        if value >= lowest:
            assert one <= math.log10(2) * 1.001
        if value < lowest - spread:
            assert one > 0.5


def test_detectors_are_combined_by_their_weighted_evidence_and_the_one_that_sees_least() -> None:
    """Distances reach far beyond both tails."""
    rng = np.random.default_rng(0)
    raw = rng.uniform(-20, 30, size=(40, 2, 3)).astype(np.float32)
    scale = rng.uniform(0.5, 2, (2, 3, 2)).astype(np.float32)
    found = combine(raw, scale, [0.25, 0.25, 0.5])
    assert (found.shape, found.dtype) == ((40, 2), np.float32)
    for b, c in np.ndindex(40, 2):
        assert found[b, c] == pytest.approx(score_of(raw[b, c], scale[c], [1, 1, 2]), rel=1e-4)


@pytest.mark.parametrize("votes", [[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]], ids=str)
def test_good_frames_score_low_and_those_in_either_tail_high(votes: list[float]) -> None:
    """Of a thousand good frames none is at 4: that is one in ten thousand above, in ten million below."""
    rng = np.random.default_rng(3)
    raw = rng.logistic(20, 1, (1000, 3)).astype(np.float32)
    scale = fit_scale(raw)
    good = combine(raw, scale, votes)
    assert np.median(good) == pytest.approx(math.log10(2) + math.log10(1000 / 999), abs=0.1)
    assert good.max() < 4
    for value in (20 + 1.2 * math.log(1e4), 20 - 1.2 * math.log(1e6), 0.0, 40.0):
        assert combine(np.full((1, 3), value, np.float32), scale, votes)[0] > 4


# How a frame looks as a whole.


def beside(frames: Array, normals: Sequence[Normal]) -> Array:
    """(N, V, E) -> (N, C, V)."""
    return from_products(frames, stacked([gaussian_of(normal) for normal in normals]))


def gaussian_of(normal: Normal) -> Gaussian:
    gaussian = normal["frame"]
    assert isinstance(gaussian, Gaussian)
    return gaussian


def check_appearance(found: Appearance, tiles: Array, normals: Sequence[Normal]) -> None:
    """tiles (T, V, E): of each view the tile that is least like a good one, and the tile that is it as a whole."""
    for c, normal in enumerate(normals):
        by_tile = np.stack([distances_by_hand("frame", {"frame": tile[None]}, 0, normal)[:, 0] for tile in tiles])
        np.testing.assert_allclose(found.views[c], by_tile.max(axis=0), rtol=1e-3)
        assert found.distance[c] == pytest.approx(max(harmonic(tile.tolist()) for tile in by_tile), rel=1e-3)


def test_an_appearance_is_the_distance_of_the_embedding_from_every_product() -> None:
    rng = np.random.default_rng(7)
    normals = [normal_of(one) for one in parts(rng, 40)]
    (frames,) = parts(rng, 6, products=1)
    layouts = [WHOLE, TILED, BOXED, WHOLE]
    found = appearances(beside(frames["frame"], normals), layouts)
    for one, layout, first in zip(found, layouts, (0, 1, 4, 5), strict=True):
        assert (one.views.shape, one.distance.shape) == ((3, 4), (3,))
        assert one.views.dtype == one.distance.dtype == np.float32
        check_appearance(one, frames["frame"][first : first + len(layout.corners)], normals)
    for c, normal in enumerate(normals):
        for b, at in ((0, 0), (3, 5)):  # the others' are tiled and boxed
            lies = orientations(frames["frame"][at : at + 1], WHOLE, gaussian_of(normal))
            assert lies is not None
            assert lies[0] == pytest.approx(found[b].distance[c], rel=1e-5)


def embedded(picture: Doubles, views: int) -> Array:
    """A stand-in for an engine: (S, S) -> (V, E), each view described by what lies where in it."""
    features = np.random.default_rng(5).normal(size=(picture.size, 6))
    embedded = np.stack([turn(picture, view).ravel() @ features for view in range(views)])
    return np.asarray(embedded / np.linalg.norm(embedded, axis=-1, keepdims=True), np.float32)


def turn_back(picture: Doubles, view: int) -> Doubles:
    upright = np.rot90(picture, -(view % 4))
    return upright[:, ::-1] if view >= 4 else upright


@pytest.mark.parametrize("views", [4, 8])
def test_orientations_by_really_turning_the_part(views: int) -> None:
    """A part that was turned by g is best at orientation g, and each orientation is as far as the part turned back."""
    rng = np.random.default_rng(6)
    spec = SPEC.model_copy(update={"views": views, "frame": 6, "places": {}, "logits": None})
    good = rng.normal(size=(12, 12)) + rng.normal(size=(60, 12, 12)) * 0.2
    normal = normal_of({"frame": np.stack([embedded(one, views) for one in good])}, spec)
    fresh = good.mean(axis=0) + rng.normal(size=(12, 12)) * 0.2
    for g in range(views):
        lies = turn(fresh, g)
        found = orientations(embedded(lies, views)[None], WHOLE, gaussian_of(normal))
        assert found is not None
        assert (found.shape, found.dtype) == ((views,), np.float32)
        turned_back = np.stack([embedded(turn_back(lies, back), views) for back in range(views)])
        expected = [float(one.distance[0]) for one in appearances(beside(turned_back, [normal]), [WHOLE] * views)]
        np.testing.assert_allclose(found, expected, rtol=2e-3)
        assert found.argmin() == g
        assert turn_ratio(found) == pytest.approx(expected[0] / min(expected[1:]), rel=2e-3)
        assert (turn_ratio(found) > 1) == (g != 0)


@pytest.mark.parametrize("views", [1, 2])
def test_few_views_are_compared_with_good_parts_in_all_orientations(views: int) -> None:
    """View v of a part that lies turned by g looks like good parts that lie turned by v + g."""
    rng = np.random.default_rng(6)
    spec = SPEC.model_copy(update={"views": views, "frame": 6, "places": {}, "logits": None})
    good = rng.normal(size=(12, 12)) + rng.normal(size=(60, 12, 12)) * 0.2
    normal = normal_of({"frame": np.stack([embedded(one, 4) for one in good])}, spec)
    fresh = good.mean(axis=0) + rng.normal(size=(12, 12)) * 0.2
    for g in range(4):
        frames = embedded(turn(fresh, g), views)[None]
        found = orientations(frames, WHOLE, gaussian_of(normal))
        (whole,) = appearances(beside(frames, [normal]), [WHOLE])
        assert found is not None
        assert (whole.views.shape, found.shape) == ((1, views), (4,))
        in_each = [distances_by_hand("frame", {"frame": frames[:, [v] * 4]}, 0, normal)[:, 0] for v in range(views)]
        for orientation in range(4):
            expected = harmonic([float(in_each[v][(v + orientation) % 4]) for v in range(views)])
            assert found[orientation] == pytest.approx(expected, rel=1e-3)
        assert found.argmin() == g
        assert found[0] == pytest.approx(whole.distance[0], rel=1e-5)


@pytest.mark.parametrize(
    ("layout", "why"),
    [
        (BOXED, "a turned frame is boxed otherwise"),
        (TILED, "a turned frame is cut otherwise"),
        (FOUR, "tiles change places"),
    ],
)
def test_where_there_is_no_orientation(layout: Layout, why: str) -> None:
    spec = SPEC.model_copy(update={"places": {}, "logits": None})
    frames = np.random.default_rng(8).normal(size=(40, 4, 5)).astype(np.float32)
    gaussian = gaussian_of(normal_of({"frame": frames}, spec))
    assert orientations(frames[: len(layout.corners)], layout, gaussian) is None, why


def test_a_turn_ratio_of_a_perfect_fit_stays_finite() -> None:
    with np.errstate(all="raise"):
        assert turn_ratio(np.array([3, 2, 6, 4], np.float32)) == pytest.approx(1.5)
        assert turn_ratio(np.array([0, 2, 6, 4], np.float32)) == 0
        assert math.isfinite(turn_ratio(np.array([3, 0, 6, 4], np.float32)))
