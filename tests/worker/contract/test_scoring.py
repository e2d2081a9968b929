from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats
from sklearn.covariance import OAS

from worker.contract.bank import Bank, BankManifest, ScoringSettings
from worker.contract.detectors import Detector, Gaussian, Normal
from worker.contract.fitting import NormalFit
from worker.contract.framing import Framing, Layout
from worker.contract.manifest import EmbeddingSpec
from worker.contract.scoring import (
    Reading,
    aggregate,
    by_orientation,
    combine,
    evidence,
    fit_scale,
    frame_scores,
    heat_map,
    over_places,
    read,
    read_frames,
    turn_ratio,
    turn_ratios,
    weights,
)
from worker.contract.views import place_order, turn

Doubles = npt.NDArray[np.float64]
AGGREGATES = ["harmonic", "mean", "min"]
PLAIN: dict[str, Callable[[list[float]], float]] = {
    "harmonic": lambda values: len(values) / sum(1 / value for value in values),
    "mean": lambda values: sum(values) / len(values),
    "min": min,
}
WHOLE = Layout(16, 16, ((0, 0),))
TILED = Layout(16, 30, ((0, 0), (0, 9), (0, 14)))  # three tiles, two or three of them on some places
BOXED = Layout(16, 9, ((0, -3),))  # one tile, margins left and right


def unit(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def normal_of(embeddings: npt.NDArray[np.float32]) -> Normal:
    """Good parts (n, V, P, D) as a product would be fitted from them."""
    _, views, positions, dimensions = embeddings.shape
    fit = NormalFit(spec_of(views, positions, dimensions), len(embeddings), 50)
    fit.add(embeddings, [WHOLE] * len(embeddings))
    return fit.build()


def spec_of(views: int, positions: int, dimensions: int) -> EmbeddingSpec:
    return EmbeddingSpec(framing=Framing(side=32), views=views, positions=positions, dimensions=dimensions)


def bank_from(normals: Sequence[Normal], detectors: Sequence[Detector] = ("mahalanobis",), **scoring: Any) -> Bank:
    """A bank without calibration; each detector's scale is another one."""
    views, dimensions = normals[0].everywhere.mean.shape
    positions = 1 if normals[0].places is None else normals[0].places.mean.shape[1]
    manifest = BankManifest(
        spec=spec_of(views, positions, dimensions),
        engine="engine",
        target="numpy",
        products=tuple(f"product {c}" for c in range(len(normals))),
        scoring=ScoringSettings.model_validate(scoring),
        detectors=tuple(detectors),
        created_at="",
    )
    scales = np.random.default_rng(9).uniform(0.2, 1.5, (len(normals), len(detectors), 2)).astype(np.float32)
    return Bank(manifest, tuple(normals), scales, ())


def parts(rng: np.random.Generator, count: int, products: int = 3, positions: int = 4) -> list[npt.NDArray[np.float32]]:
    centres = rng.normal(size=(products, 1, 4, positions, 5)) * 2
    return [unit(centre + rng.normal(size=(count, 4, positions, 5))) for centre in centres]


# Frames to readings, against loops over tiles, places and views.


def distances_by_hand(detector: str, embedding: npt.NDArray[np.float32], normal: Normal) -> Doubles:
    """(V, P) from one tile's (V, P, D), for a grid that no detector coarsens."""
    found = np.empty(embedding.shape[:2])
    for v in range(found.shape[0]):
        for p in range(found.shape[1]):
            gaussian = (normal.everywhere.mean[v], normal.everywhere.whitening[v])
            if detector == "position":
                assert normal.places is not None
                gaussian = (normal.places.mean[v, p], normal.places.whitening[v, p])
            whitened = gaussian[1].astype(np.float64) @ (embedding[v, p] - gaussian[0])
            nearest = min(math.dist(whitened, one) for one in normal.neighbours[v])
            found[v, p] = nearest if detector == "knn" else math.hypot(*whitened)
    return found


def stitched_by_hand(layout: Layout, by_tile: Sequence[Doubles]) -> Doubles:
    """(h, w) from T times (P,): each place is the mean of the tiles that see it."""
    grid = math.isqrt(len(by_tile[0]))
    if layout == WHOLE:
        return by_tile[0].reshape(grid, grid)
    cells = max(1, grid // 16)  # a unit
    whole = np.empty((layout.height * cells, layout.width * cells))
    for y in range(len(whole)):
        for x in range(len(whole[0])):
            seen = []
            for (row, column), values in zip(layout.corners, by_tile, strict=True):
                inside_y, inside_x = y - row * cells, x - column * cells
                if 0 <= inside_y < 16 * cells and 0 <= inside_x < 16 * cells:
                    seen.append(values[inside_y * grid // (16 * cells) * grid + inside_x * grid // (16 * cells)])
            whole[y, x] = sum(seen) / len(seen)
    return whole


def above_median(whole: Doubles, relative: bool) -> Doubles:
    ordered = sorted(whole.ravel())
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return whole - middle if relative and len(ordered) > 1 else whole


def worst_places(whole: Doubles, worst: float) -> float:
    count = max(1, round(worst * whole.size))
    return sum(sorted(whole.ravel())[-count:]) / count


def check_reading(
    found: Reading, tiles: npt.NDArray[np.float32], layout: Layout, normals: Sequence[Normal], scoring: ScoringSettings
) -> None:
    for k, detector in enumerate(("knn", "position", "mahalanobis")):
        for c, normal in enumerate(normals):
            by_tile = [distances_by_hand(detector, tile, normal) for tile in tiles]
            together = [np.array([PLAIN[scoring.aggregate](values.tolist()) for values in tile.T]) for tile in by_tile]
            whole = above_median(stitched_by_hand(layout, together), scoring.relative)
            np.testing.assert_allclose(found.maps[k][c], whole, rtol=1e-3, atol=1e-4)
            assert found.raw[c, k] == pytest.approx(worst_places(whole, scoring.worst), rel=1e-3, abs=1e-4)
            if k == 0:  # each view alone, by the first detector
                for v in range(tiles.shape[1]):
                    alone = above_median(stitched_by_hand(layout, [tile[v] for tile in by_tile]), scoring.relative)
                    expected = worst_places(alone, scoring.worst)
                    assert found.views[c, v] == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("positions", [1, 4, 64])
@pytest.mark.parametrize(
    "scoring",
    [
        ScoringSettings(),
        ScoringSettings(aggregate="mean", relative=False, worst=0.1),
        ScoringSettings(aggregate="min", worst=1.0),
    ],
    ids=str,
)
def test_frames_of_different_layouts_are_read_as_by_loops(positions: int, scoring: ScoringSettings) -> None:
    rng = np.random.default_rng(positions)
    places = None
    if positions > 1:
        places = Gaussian(*(rng.normal(size=(2, positions, *s)).astype(np.float32) for s in ((3,), (3, 3))))
    places = places or Gaussian(*(rng.normal(size=(2, 1, *s)).astype(np.float32) for s in ((3,), (3, 3))))
    normals = [
        Normal(
            Gaussian(*(rng.normal(size=(2, *s)).astype(np.float32) for s in ((3,), (3, 3)))),
            places,
            rng.normal(size=(2, 3 + c, 3)).astype(np.float32),
        )
        for c in range(2)
    ]
    layouts = [WHOLE, TILED, BOXED, WHOLE]
    embeddings = unit(rng.normal(size=(6, 2, positions, 3)))
    found = read(embeddings, layouts, normals, scoring, ("knn", "position", "mahalanobis"))
    assert len(found) == 4
    assert all(one.raw.shape == (2, 3) and one.views.shape == (2, 2) for one in found)
    for one, layout, first in zip(found, layouts, (0, 1, 4, 5), strict=True):
        check_reading(one, embeddings[first : first + len(layout.corners)], layout, normals, scoring)


def test_a_finer_detector_keeps_its_own_grid() -> None:
    """32 by 32 places: the encoder's own detector sees all, the bank's see means of sixteen."""
    rng = np.random.default_rng(0)
    embeddings = unit(rng.normal(size=(1, 2, 1024, 3)))
    scoring = ScoringSettings(relative=False, aggregate="mean")
    normal = Normal(
        Gaussian(np.zeros((2, 3), np.float32), np.tile(np.eye(3, dtype=np.float32), (2, 1, 1))),
        None,
        np.zeros((2, 1, 3), np.float32),
    )
    (whole,) = read(embeddings, [WHOLE], [normal], scoring, ("mahalanobis", "learned"))
    (boxed,) = read(embeddings, [BOXED], [normal], scoring, ("mahalanobis", "learned"))
    assert [one.shape for one in whole.maps] == [(1, 8, 8), (1, 32, 32)]
    assert [one.shape for one in boxed.maps] == [(1, 16, 9), (1, 32, 18)]
    z = embeddings[0].astype(np.float64)
    logits = (4 * z[..., 0] / np.maximum(z[..., 1], 1e-4)).reshape(2, 32, 32)
    np.testing.assert_allclose(whole.maps[1][0], np.maximum(logits + 20, 0).mean(axis=0), rtol=1e-3)
    np.testing.assert_allclose(boxed.maps[1][0], whole.maps[1][0][:, 6:24], rtol=1e-5)
    units = whole.maps[0][0].repeat(2, axis=0).repeat(2, axis=1)  # a layout other than WHOLE has 16 of them
    np.testing.assert_allclose(boxed.maps[0][0], units[:, 3:12], rtol=1e-5)
    assert whole.raw[0, 1] == pytest.approx(np.sort(whole.maps[1].ravel())[-10:].mean(), rel=1e-5)  # 1% of 1024


def test_frames_are_scored_independently_and_none_gives_none() -> None:
    rng = np.random.default_rng(0)
    normal = parts(rng, 40)
    frames = unit(np.concatenate([normal[0][:3], rng.normal(size=(4, 4, 4, 5))]))
    bank = bank_from([normal_of(one) for one in normal], ("mahalanobis", "position", "knn"))
    together = frame_scores(read_frames(frames, [WHOLE] * 7, bank), bank)
    assert (together.shape, together.dtype) == ((7, 3), np.float32)
    for b in range(7):
        alone = frame_scores(read_frames(frames[b : b + 1], [WHOLE], bank), bank)
        np.testing.assert_allclose(alone[0], together[b], rtol=1e-3, atol=1e-5)
    assert read_frames(frames[:0], [], bank) == []
    assert frame_scores([], bank).shape == (0, 3)


def self_ensemble(frame: npt.NDArray[np.float32], normal: Sequence[npt.NDArray[np.float32]]) -> tuple[float, int]:
    """Self-ensemble inference in plain Python: (score, predicted product), for one position."""
    by_product = []
    for of_product in normal:
        views = []
        for v in range(4):
            gaussian = OAS().fit(of_product[:, v, 0].astype(np.float64))
            difference = frame[v, 0] - gaussian.location_
            views.append(math.sqrt(difference @ np.linalg.inv(gaussian.covariance_) @ difference))
        weights = [1 / distance for distance in views]
        by_product.append(sum(w * d for w, d in zip(weights, views, strict=True)) / sum(weights))
    return min(by_product), by_product.index(min(by_product))


def test_self_ensemble_inference() -> None:
    """With one position and the first detector alone, a frame's distance is that of arXiv 2105.08793."""
    rng = np.random.default_rng(3)
    normal = parts(rng, 40, positions=1)
    frames = unit(np.concatenate([normal[1][:2], rng.normal(size=(6, 4, 1, 5))]))
    bank = bank_from([normal_of(one) for one in normal])
    found = read_frames(frames, [WHOLE] * 8, bank)
    for frame, reading in zip(frames, found, strict=True):
        score, product = self_ensemble(frame, normal)
        assert reading.raw.shape == (3, 1)
        assert reading.raw.min() == pytest.approx(score, rel=1e-3)
        assert reading.raw.argmin() == product
    assert [reading.raw.argmin() for reading in found[:2]] == [1, 1]


# Aggregation.

positive = st.lists(st.floats(0.01, 1000), min_size=1, max_size=8)


@given(positive)
def test_the_harmonic_mean_is_the_average_weighted_by_one_over_distance(values: list[float]) -> None:
    weights = [1 / value for value in values]
    weighted = sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)
    assert aggregate(np.array(values, np.float32), "harmonic") == pytest.approx(weighted, rel=1e-4)
    assert aggregate(np.array(values, np.float32), "mean") == pytest.approx(sum(values) / len(values), rel=1e-4)
    assert aggregate(np.array(values, np.float32), "min") == pytest.approx(min(values), rel=1e-6)


def test_aggregation_over_any_axis() -> None:
    values = np.random.default_rng(2).random((2, 3, 4, 5)).astype(np.float32) + 0.1
    for how in AGGREGATES:
        expected = np.moveaxis(values, 2, -1)
        np.testing.assert_allclose(aggregate(values, how, axis=-2), aggregate(expected, how), rtol=1e-6)
        assert aggregate(values, how).dtype == np.float32


def test_a_distance_of_zero_is_a_score_of_zero() -> None:
    with np.errstate(all="raise"):
        assert aggregate(np.array([0.0, 3.0], np.float32), "harmonic") == pytest.approx(0, abs=1e-9)
        assert aggregate(np.zeros(4, np.float32), "harmonic") == pytest.approx(0, abs=1e-9)


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


def test_good_frames_that_are_all_alike_leave_a_scale() -> None:
    for value in (0.0, 3.0, 1e5):
        (scale,) = fit_scale(np.full((20, 1), value, np.float32))
        assert scale[0] == value
        assert 0 < scale[1] <= 1e-6 * max(1, value) * 1.001
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            at, beyond = evidence(np.array([value, value + 1], np.float32), scale)
        assert at == pytest.approx(math.log10(2), rel=1e-5)
        assert np.isfinite(beyond)
        assert beyond > at


@given(st.floats(-50, 200), st.floats(-10, 10), st.floats(0.05, 20))
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


def test_detectors_of_the_bank_share_one_vote_and_the_learned_one_has_another() -> None:
    assert weights(("knn",)) == weights(("learned",)) == pytest.approx([1])
    assert weights(("mahalanobis", "position", "knn")) == pytest.approx(np.full(3, 1 / 3))
    assert weights(("knn", "learned")) == pytest.approx([0.5, 0.5])
    assert weights(("mahalanobis", "learned", "position", "knn")) == pytest.approx([1 / 6, 1 / 2, 1 / 6, 1 / 6])


def test_detectors_are_combined_by_their_weighted_evidence() -> None:
    rng = np.random.default_rng(0)
    raw = rng.gamma(3.0, size=(5, 2, 3)).astype(np.float32)
    scale = rng.uniform(0.5, 2, (2, 3, 2)).astype(np.float32)
    found = combine(raw, scale, ("mahalanobis", "knn", "learned"))
    assert (found.shape, found.dtype) == ((5, 2), np.float32)
    for b in range(5):
        for c in range(2):
            first, second, learned = (stats.logistic.sf(raw[b, c, k], *scale[c, k]) for k in range(3))
            assert found[b, c] == pytest.approx(-math.log10(first * second * learned**2) / 4, rel=1e-4)


def test_a_bank_weighs_each_product_by_its_own_scale() -> None:
    rng = np.random.default_rng(4)
    bank = bank_from([normal_of(one) for one in parts(rng, 40)], ("mahalanobis", "knn"))
    readings = [Reading(rng.gamma(3.0, size=(3, 2)).astype(np.float32), (), np.empty(0, np.float32)) for _ in range(4)]
    found = frame_scores(readings, bank)
    for b, reading in enumerate(readings):
        for c in range(3):
            each = [-math.log10(stats.logistic.sf(reading.raw[c, k], *bank.scales[c, k])) for k in range(2)]
            assert found[b, c] == pytest.approx(sum(each) / 2, rel=1e-4)
    alone = bank.of_products([1])
    assert frame_scores([Reading(one.raw[1:2], (), one.views) for one in readings], alone) == pytest.approx(
        found[:, 1:2]
    )


def test_a_heat_map_is_the_weighted_evidence_at_each_place_in_thresholds() -> None:
    rng = np.random.default_rng(5)
    bank = bank_from([normal_of(one) for one in parts(rng, 40, products=2)], ("mahalanobis", "knn", "learned"))
    maps = tuple(rng.normal(1, 1, (2, *grid)).astype(np.float32) for grid in ((3, 4), (3, 4), (6, 8)))
    reading = Reading(np.empty(0, np.float32), maps, np.empty(0, np.float32))
    heat = heat_map(reading, bank, 1, 2.5)
    assert (heat.shape, heat.dtype) == ((6, 8), np.float32)
    first, second, learned = (-stats.logistic.logsf(one[1], *bank.scales[1, k]) for k, one in enumerate(maps))
    middles = [(np.arange(n) + 0.5) / 2 - 0.5 for n in heat.shape]
    enlarged = ndimage.map_coordinates(first + second, np.meshgrid(*middles, indexing="ij"), order=1, mode="nearest")
    np.testing.assert_allclose(heat, (enlarged / 4 + learned / 2) / math.log(10) / 2.5, rtol=1e-4)
    assert np.isfinite(heat_map(reading, bank, 0, 0.0)).all()


def test_a_frame_that_looks_as_bad_everywhere_as_at_its_threshold_is_one_threshold_hot() -> None:
    rng = np.random.default_rng(6)
    normal = parts(rng, 40, products=1)[0]
    bank = bank_from([normal_of(normal)], ("mahalanobis", "knn"), relative=False, worst=1.0)
    place = unit(rng.normal(size=(1, 4, 1, 5)))
    (reading,) = read_frames(np.repeat(place, 4, axis=2), [WHOLE], bank)
    (score,) = frame_scores([reading], bank)
    np.testing.assert_allclose(heat_map(reading, bank, 0, float(score[0])), np.ones((2, 2)), rtol=1e-5)


# Orientation.


def look(picture: Doubles, views: int, grid: int) -> npt.NDArray[np.float32]:
    """A stand-in for an engine: (S, S) -> (V, P, D), each cell of each view described by what lies where in it."""
    cell = len(picture) // grid
    features = np.random.default_rng(5).normal(size=(cell * cell, 6))
    order = place_order(views, grid * grid)
    embedded = []
    for view in range(views):
        turned = turn(picture, view)
        cells = turned.reshape(grid, cell, grid, cell).swapaxes(1, 2).reshape(grid * grid, cell * cell)
        embedded.append(unit(cells @ features)[order[view]])
    return np.stack(embedded)


def turn_back(picture: Doubles, view: int) -> Doubles:
    upright = np.rot90(picture, -(view % 4))
    return upright[:, ::-1] if view >= 4 else upright


@pytest.mark.parametrize("views", [4, 8])
@pytest.mark.parametrize("grid", [1, 2, 4])
@pytest.mark.parametrize(
    "detectors", [("mahalanobis",), ("position",), ("knn",), ("mahalanobis", "position", "knn")], ids="+".join
)
def test_turn_ratios_by_really_turning_the_part(views: int, grid: int, detectors: tuple[Detector, ...]) -> None:
    if grid == 1 and "position" in detectors:
        detectors = tuple(one for one in detectors if one != "position") or ("mahalanobis", "knn")
    rng = np.random.default_rng(6)
    good = rng.normal(size=(12, 12)) + rng.normal(size=(60, 12, 12)) * 0.2
    looks = np.stack([look(picture, views, grid) for picture in good])
    bank = bank_from([normal_of(looks[:30])], detectors)
    raw = np.concatenate([reading.raw for reading in read_frames(looks[30:], [WHOLE] * 30, bank)])
    bank = Bank(bank.manifest, bank.normals, fit_scale(raw)[None], ())

    def score(picture: Doubles) -> float:
        return float(frame_scores(read_frames(look(picture, views, grid)[None], [WHOLE], bank), bank)[0, 0])

    fresh = good.mean(axis=0) + rng.normal(size=(12, 12)) * 0.2
    for lies in range(views):
        picture = turn(fresh, lies)
        expected = [score(turn_back(picture, g)) for g in range(views)]
        found = by_orientation(look(picture, views, grid)[None], WHOLE, bank, 0)
        assert found == pytest.approx(expected, rel=2e-3)
        assert turn_ratio(found) == pytest.approx(expected[0] / min(expected[1:]), rel=2e-3)
        assert (turn_ratio(found) > 1) == (lies != 0)


def test_turn_ratios_are_those_of_the_product_and_of_the_frames_that_have_one() -> None:
    rng = np.random.default_rng(7)
    normals = [normal_of(one) for one in parts(rng, 40)]
    bank = bank_from(normals, ("mahalanobis", "knn"))
    embeddings = unit(rng.normal(size=(6, 4, 4, 5)))
    found = turn_ratios(embeddings, [WHOLE, TILED, BOXED, WHOLE], bank, 1)
    assert found.dtype == np.float32
    alone = bank.of_products([1])
    expected = [turn_ratio(by_orientation(embeddings[b : b + 1], WHOLE, alone, 0)) for b in (0, 5)]
    assert found == pytest.approx(np.array(expected))
    assert found[0] != pytest.approx(turn_ratio(by_orientation(embeddings[:1], WHOLE, bank, 0)))


@pytest.mark.parametrize(
    ("views", "layout", "why"),
    [
        (2, WHOLE, "turns were not told apart"),
        (1, WHOLE, "there is one view"),
        (4, BOXED, "a turned frame is boxed otherwise"),
        (4, TILED, "a turned frame is cut otherwise"),
        (4, Layout(30, 30, ((0, 0), (0, 14), (14, 0), (14, 14))), "tiles change places"),
    ],
)
def test_where_there_is_no_orientation(views: int, layout: Layout, why: str) -> None:
    embeddings = unit(np.random.default_rng(8).normal(size=(40, views, 4, 5)))
    bank = bank_from([normal_of(embeddings)])
    tiles = len(layout.corners)
    assert by_orientation(embeddings[:tiles], layout, bank, 0) is None, why
    found = turn_ratios(embeddings[: 2 * tiles], [layout] * 2, bank, 0)
    assert (found.shape, found.dtype) == ((0,), np.float32)
