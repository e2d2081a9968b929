from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import OAS

from worker.contract.bank import Bank, BankManifest, Calibration, ScoringSettings, fit_gaussians
from worker.contract.manifest import EmbeddingSpec
from worker.contract.scoring import aggregate, distances, scores, turn_ratios
from worker.contract.views import place_order, turn

AGGREGATES = ["harmonic", "mean", "min"]


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def bank_from(embeddings: tuple[np.ndarray, ...], **scoring: object) -> Bank:
    _, views, positions, dimensions = embeddings[0].shape
    manifest = BankManifest(
        spec=EmbeddingSpec(side=16, views=views, positions=positions, dimensions=dimensions),
        engine="engine",
        target="numpy",
        products=tuple(f"product {c}" for c in range(len(embeddings))),
        scoring=ScoringSettings.model_validate(scoring),
        created_at="",
        trained_holdout=True,
    )
    empty = np.empty(0, np.float32)
    return Bank(manifest, embeddings, fit_gaussians(embeddings), (Calibration(empty, empty),) * len(embeddings))


def parts(rng: np.random.Generator, count: int, products: int = 3, positions: int = 4) -> tuple[np.ndarray, ...]:
    centres = rng.normal(size=(products, 1, 4, positions, 5)) * 2
    return tuple(unit(centre + rng.normal(size=(count, 4, positions, 5))) for centre in centres)


RNG = np.random.default_rng(0)
NORMAL = parts(RNG, 40)
FRAMES = unit(np.concatenate([NORMAL[0][:3], RNG.normal(size=(4, 4, 4, 5))]))


def test_mahalanobis_by_solving_for_every_vector() -> None:
    found = distances(FRAMES, bank_from(NORMAL))
    assert (found.shape, found.dtype) == ((7, 3, 4, 4), np.float32)
    for c, normal in enumerate(NORMAL):
        for v in range(4):
            for p in range(4):
                gaussian = OAS().fit(normal[:, v, p].astype(np.float64))
                for b, frame in enumerate(FRAMES):
                    difference = frame[v, p] - gaussian.location_
                    squared = difference @ np.linalg.solve(gaussian.covariance_, difference)
                    assert found[b, c, v, p] == pytest.approx(math.sqrt(squared), rel=1e-3)


@pytest.mark.parametrize("neighbours", [1, 3, 100])
def test_knn_by_loops(neighbours: int) -> None:
    found = distances(FRAMES, bank_from(NORMAL, method="knn", neighbours=neighbours))
    assert (found.shape, found.dtype) == ((7, 3, 4, 4), np.float32)
    for b, frame in enumerate(FRAMES):
        for c, normal in enumerate(NORMAL):
            for v in range(4):
                for p in range(4):
                    cosines = sorted((float(frame[v, p] @ one[v, p]) for one in normal), reverse=True)[:neighbours]
                    assert found[b, c, v, p] == pytest.approx(1 - sum(cosines) / len(cosines), abs=1e-5)


@pytest.mark.parametrize("method", ["mahalanobis", "knn"])
def test_a_distance_is_never_negative(method: str) -> None:
    """The cosine of a unit vector with itself rounds to just above 1 for many of these."""
    rng = np.random.default_rng(1)
    normal = unit(rng.normal(size=(200, 1, 1, 64)))
    found = distances(normal, bank_from((normal,), method=method, neighbours=1))
    assert found.min() >= 0
    if method == "knn":
        assert found.max() < 1e-5


def test_frames_are_scored_independently_and_none_gives_none() -> None:
    for method in ("mahalanobis", "knn"):
        bank = bank_from(NORMAL, method=method)
        together = distances(FRAMES, bank)
        for b in range(len(FRAMES)):
            np.testing.assert_allclose(distances(FRAMES[b : b + 1], bank)[0], together[b], rtol=1e-4, atol=1e-6)
        assert distances(FRAMES[:0], bank).shape == (0, 3, 4, 4)
        assert scores(distances(FRAMES[:0], bank), bank.manifest.scoring).shape == (0, 3)


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


def self_ensemble(frame: np.ndarray, normal: tuple[np.ndarray, ...]) -> tuple[float, int]:
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
    rng = np.random.default_rng(3)
    normal = parts(rng, 40, positions=1)
    frames = unit(np.concatenate([normal[1][:2], rng.normal(size=(6, 4, 1, 5))]))
    bank = bank_from(normal)
    found = scores(distances(frames, bank), bank.manifest.scoring)
    assert found.shape == (8, 3)
    for b, frame in enumerate(frames):
        score, product = self_ensemble(frame, normal)
        assert found[b].min() == pytest.approx(score, rel=1e-3)
        assert found[b].argmin() == product
    assert found[:2].argmin(axis=1).tolist() == [1, 1]


@pytest.mark.parametrize("how", AGGREGATES)
def test_views_are_aggregated_place_by_place_and_the_worst_place_counts(how: str) -> None:
    by_place = np.random.default_rng(4).random((2, 3, 4, 9)).astype(np.float32) + 0.1
    plain: dict[str, Callable[[list[float]], float]] = {
        "harmonic": lambda values: len(values) / sum(1 / value for value in values),
        "mean": lambda values: sum(values) / len(values),
        "min": min,
    }
    found = scores(by_place, ScoringSettings.model_validate({"aggregate": how}))
    for b in range(2):
        for c in range(3):
            places = [plain[how]([float(by_place[b, c, v, p]) for v in range(4)]) for p in range(9)]
            assert found[b, c] == pytest.approx(max(places), rel=1e-5)


def look(picture: np.ndarray, views: int, grid: int) -> np.ndarray:
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


def turn_back(picture: np.ndarray, view: int) -> np.ndarray:
    upright = np.rot90(picture, -(view % 4))
    return upright[:, ::-1] if view >= 4 else upright


@pytest.mark.parametrize("views", [4, 8])
@pytest.mark.parametrize("grid", [1, 2, 3])
@pytest.mark.parametrize("method", ["mahalanobis", "knn"])
def test_turn_ratios_by_really_turning_the_part(views: int, grid: int, method: str) -> None:
    rng = np.random.default_rng(6)
    good = rng.normal(size=(12, 12)) + rng.normal(size=(30, 12, 12)) * 0.2
    bank = bank_from((np.stack([look(picture, views, grid) for picture in good]),), method=method)

    def score(picture: np.ndarray) -> float:
        by_place = distances(look(picture, views, grid)[None], bank)[:, 0]
        return float(scores(by_place, bank.manifest.scoring)[0])

    fresh = good.mean(axis=0) + rng.normal(size=(12, 12)) * 0.2
    for lies in range(views):
        picture = turn(fresh, lies)
        by_orientation = [score(turn_back(picture, g)) for g in range(views)]
        (found,) = turn_ratios(look(picture, views, grid)[None], bank, 0)
        assert found == pytest.approx(by_orientation[0] / min(by_orientation[1:]), rel=1e-3)
        assert (found > 1) == (lies != 0)


def test_without_four_views_there_is_no_orientation() -> None:
    normal = NORMAL[0][:, :2]
    assert turn_ratios(normal, bank_from((normal,)), 0).shape == (0,)
