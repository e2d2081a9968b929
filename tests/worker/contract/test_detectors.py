from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import OAS

from worker.contract.detectors import (
    DETECTORS,
    Detector,
    Gaussian,
    Moments,
    Normal,
    coarse_side,
    coarsen,
    distances,
    features_of,
    greedy_coreset,
    learned_logits,
)

Doubles = npt.NDArray[np.float64]
VIEWS, PLACES, DIMENSIONS = 2, 4, 5


def unit(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def random_gaussians(rng: np.random.Generator, *shape: int) -> tuple[Gaussian, Doubles]:
    """Gaussians with one of the many whitenings W, WᵀW = Σ⁻¹, and their covariances Σ."""
    mixing = rng.normal(size=(*shape, DIMENSIONS, DIMENSIONS)) + 2 * np.eye(DIMENSIONS)
    turned = np.linalg.qr(rng.normal(size=(DIMENSIONS, DIMENSIONS)))[0]
    mean = rng.normal(size=(*shape, DIMENSIONS))
    gaussian = Gaussian(mean.astype(np.float32), np.asarray(turned @ np.linalg.inv(mixing), np.float32))
    return gaussian, mixing @ mixing.swapaxes(-1, -2)


RNG = np.random.default_rng(0)
EVERYWHERE, COVARIANCE = random_gaussians(RNG, VIEWS)
BY_PLACE, COVARIANCES = random_gaussians(RNG, VIEWS, PLACES)
NORMAL = Normal(EVERYWHERE, BY_PLACE, RNG.normal(size=(VIEWS, 7, DIMENSIONS)).astype(np.float32))
FRAMES = unit(RNG.normal(size=(3, VIEWS, PLACES, DIMENSIONS)))


def distances_by(
    detector: Detector, embeddings: npt.NDArray[np.float32], normal: Normal, neighbours: int = 1
) -> npt.NDArray[np.float32]:
    """(N, V, P') distances to one product by one detector."""
    return distances((detector,), embeddings, (normal,), neighbours)[0][:, 0]


def mahalanobis(vector: npt.NDArray[np.floating], mean: npt.NDArray[np.floating], covariance: Doubles) -> float:
    difference = vector.astype(np.float64) - mean
    return math.sqrt(difference @ np.linalg.solve(covariance, difference))


@pytest.mark.parametrize(("count", "dimensions"), [(200, 8), (12, 8), (5, 30), (2, 6)])
def test_gaussians_agree_with_scikit_learn(count: int, dimensions: int) -> None:
    rng = np.random.default_rng(count)
    mixing = rng.normal(size=(2, 3, dimensions, dimensions))
    samples = np.asarray(rng.normal(size=(count, 2, 3, 1, dimensions)) @ mixing + 1, np.float32)[..., 0, :]
    moments = Moments(2, 3, dimensions=dimensions)
    for batch in np.array_split(samples, [1, 1, count // 2]):  # one, none, and two larger ones
        moments.add(batch)
    gaussian = moments.gaussian()
    assert moments.count == count
    assert gaussian.mean.dtype == gaussian.whitening.dtype == np.float32
    assert (gaussian.mean.shape, gaussian.whitening.shape) == ((2, 3, dimensions), (2, 3, dimensions, dimensions))
    for v in range(2):
        for p in range(3):
            oracle = OAS().fit(samples[:, v, p].astype(np.float64))
            np.testing.assert_allclose(gaussian.mean[v, p], oracle.location_, rtol=1e-4, atol=1e-5)
            whitening = gaussian.whitening[v, p].astype(np.float64)
            whitened = whitening @ oracle.covariance_ @ whitening.T
            np.testing.assert_allclose(whitened, np.eye(dimensions), atol=2e-3)


def test_the_whitened_normals_have_unit_variance() -> None:
    samples = unit(np.random.default_rng(3).normal(size=(5000, 6)) + 2)
    moments = Moments(dimensions=6)
    moments.add(samples)
    gaussian = moments.gaussian()
    whitened = (samples - gaussian.mean) @ gaussian.whitening.T
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(6), atol=0.05)


@pytest.mark.parametrize("count", [1, 10])
def test_normals_that_do_not_vary_give_finite_gaussians(count: int) -> None:
    one = unit(np.random.default_rng(4).normal(size=(1, 2, 4)))
    moments = Moments(2, dimensions=4)
    moments.add(np.repeat(one, count, axis=0))
    gaussian = moments.gaussian()
    assert np.isfinite(gaussian.whitening).all()
    np.testing.assert_allclose(gaussian.mean, one[0], rtol=1e-6)


def test_many_detectors_and_products_are_each_as_if_alone() -> None:
    rng = np.random.default_rng(5)
    embeddings = unit(np.abs(rng.normal(size=(3, VIEWS, PLACES, 2 + DIMENSIONS))))
    other = Normal(random_gaussians(rng, VIEWS)[0], random_gaussians(rng, VIEWS, PLACES)[0], NORMAL.neighbours[:, :3])
    order: tuple[Detector, ...] = ("knn", "learned", "position", "mahalanobis")
    found = distances(order, embeddings, (NORMAL, other), 2)
    for detector, values in zip(order, found, strict=True):
        assert values.shape == (3, 2, VIEWS, PLACES)
        for c, normal in enumerate((NORMAL, other)):
            np.testing.assert_allclose(values[:, c], distances_by(detector, embeddings, normal, 2), rtol=1e-6)


def test_mahalanobis_by_solving_for_every_vector() -> None:
    found = distances_by("mahalanobis", FRAMES, NORMAL)
    assert (found.shape, found.dtype) == ((3, VIEWS, PLACES), np.float32)
    for n, frame in enumerate(FRAMES):
        for v in range(VIEWS):
            for p in range(PLACES):
                expected = mahalanobis(frame[v, p], EVERYWHERE.mean[v], COVARIANCE[v])
                assert found[n, v, p] == pytest.approx(expected, rel=1e-3)


def test_position_by_solving_for_every_vector() -> None:
    found = distances_by("position", FRAMES, NORMAL)
    assert (found.shape, found.dtype) == ((3, VIEWS, PLACES), np.float32)
    for n, frame in enumerate(FRAMES):
        for v in range(VIEWS):
            for p in range(PLACES):
                expected = mahalanobis(frame[v, p], BY_PLACE.mean[v, p], COVARIANCES[v, p])
                assert found[n, v, p] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("neighbours", [1, 3, 7, 100])
def test_knn_by_brute_force_in_whitened_space(neighbours: int) -> None:
    found = distances_by("knn", FRAMES, NORMAL, neighbours)
    assert (found.shape, found.dtype) == ((3, VIEWS, PLACES), np.float32)
    for n, frame in enumerate(FRAMES):
        for v in range(VIEWS):
            for p in range(PLACES):
                query = EVERYWHERE.whitening[v].astype(np.float64) @ (frame[v, p] - EVERYWHERE.mean[v])
                nearest = sorted(math.dist(query, one) for one in NORMAL.neighbours[v].astype(np.float64))[:neighbours]
                assert found[n, v, p] == pytest.approx(sum(nearest) / len(nearest), rel=1e-4)


def test_knn_over_more_queries_than_one_matrix_product_takes() -> None:
    """Two blocks of queries give what each gives alone."""
    rng = np.random.default_rng(1)
    frames = unit(rng.normal(size=(1100, VIEWS, PLACES, DIMENSIONS)))
    together = distances_by("knn", frames, NORMAL, 2)
    for n in (0, 1, 1023, 1024, 1025, 1099):
        np.testing.assert_allclose(distances_by("knn", frames[n : n + 1], NORMAL, 2)[0], together[n], rtol=1e-4)


def encoded(logit: Doubles, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """z = (ℓ/4, 1, f) / ‖(ℓ/4, 1, f)‖ with random features f, as an encoder writes it."""
    features = rng.normal(size=(*logit.shape, 5))
    joined = np.concatenate([logit[..., None] / 4, np.ones((*logit.shape, 1)), features], axis=-1)
    return np.asarray(joined / np.sqrt((joined**2).sum(axis=-1, keepdims=True)), np.float32)


@given(st.lists(st.floats(-19, 40), min_size=2, max_size=12))
def test_the_logit_that_an_encoder_wrote_is_read_again(written: list[float]) -> None:
    logits = np.array(written).reshape(1, 1, -1)
    embeddings = encoded(logits, np.random.default_rng(0))
    np.testing.assert_allclose(learned_logits(embeddings), logits, atol=0.01, rtol=5e-4)
    found = distances_by("learned", embeddings, NORMAL)
    assert (found.shape, found.dtype) == (logits.shape, np.float32)
    np.testing.assert_allclose(found, logits + 20, atol=0.03)


def test_a_logit_beyond_all_bounds_stays_finite() -> None:
    embeddings = np.zeros((1, 1, 4, 3), np.float32)
    embeddings[0, 0, :, 0] = (1, -1, np.nextafter(np.float32(1), np.float32(2)), 0)
    embeddings[0, 0, 3, 1] = 1
    certain, normal, rounded, undecided = distances_by("learned", embeddings, NORMAL)[0, 0]
    assert certain == pytest.approx(rounded)
    assert 1000 < certain < 1e5
    assert (normal, undecided) == (0, 20)


def test_the_bank_compares_the_features_that_an_encoder_wrote_with_their_length() -> None:
    rng = np.random.default_rng(0)
    logits, features = rng.normal(size=(4, VIEWS, PLACES)) * 5, rng.normal(size=(4, VIEWS, PLACES, DIMENSIONS)) * 3
    joined = np.concatenate([logits[..., None] / 4, np.ones((*logits.shape, 1)), features], axis=-1)
    embeddings = (joined / np.linalg.norm(joined, axis=-1, keepdims=True)).astype(np.float32)
    np.testing.assert_allclose(features_of(embeddings), features, rtol=1e-4, atol=1e-5)
    for detector in ("mahalanobis", "position", "knn"):
        plain = distances_by(detector, features.astype(np.float32), NORMAL)
        np.testing.assert_allclose(distances_by(detector, embeddings, NORMAL), plain, rtol=1e-3)


def test_learned_distances_keep_the_finest_grid() -> None:
    """The bank's three look at 8 by 8 places, the encoder's own at all it has."""
    frames = unit(np.random.default_rng(5).normal(size=(1, VIEWS, 32 * 32, DIMENSIONS)))
    normal = Normal(EVERYWHERE, None, NORMAL.neighbours)
    assert distances_by("learned", frames, normal).shape == (1, VIEWS, 1024)
    assert distances_by("mahalanobis", frames, normal).shape == (1, VIEWS, 64)
    assert distances_by("knn", frames, normal).shape == (1, VIEWS, 64)
    np.testing.assert_array_equal(
        distances_by("mahalanobis", frames, normal), distances_by("mahalanobis", coarsen(frames), normal)
    )


@pytest.mark.parametrize("detector", ["mahalanobis", "position", "knn"])
def test_a_distance_is_never_negative(detector: Detector) -> None:
    """The square of the distance of a vector to itself, by expanding it, rounds to below 0 for many of these."""
    rng = np.random.default_rng(1)
    normal = unit(rng.normal(size=(200, 1, 1, 64)) + 3)
    moments = Moments(1, 1, dimensions=64)
    moments.add(normal)
    by_place = moments.gaussian()
    everywhere = Gaussian(by_place.mean[:, 0], by_place.whitening[:, 0])
    neighbours = (normal[:, 0, 0] - everywhere.mean[0]) @ everywhere.whitening[0].T
    found = distances_by(detector, normal, Normal(everywhere, by_place, neighbours[None]))
    assert np.isfinite(found).all()
    assert found.min() >= 0
    if detector == "knn":
        assert found.max() < 0.02


def test_frames_are_measured_independently_and_none_gives_none() -> None:
    for detector in DETECTORS:
        together = distances_by(detector, FRAMES, NORMAL)
        for n in range(len(FRAMES)):
            np.testing.assert_allclose(
                distances_by(detector, FRAMES[n : n + 1], NORMAL)[0], together[n], rtol=1e-4, atol=1e-6
            )
        assert distances_by(detector, FRAMES[:0], NORMAL).shape == (0, VIEWS, PLACES)


def test_without_gaussians_of_each_place_there_is_no_such_detector() -> None:
    without = Normal(EVERYWHERE, None, NORMAL.neighbours)
    assert (NORMAL.detectors, without.detectors) == (("mahalanobis", "position", "knn"), ("mahalanobis", "knn"))
    with pytest.raises(ValueError, match="no Gaussians for each position"):
        distances_by("position", FRAMES, without)


@pytest.mark.parametrize(("side", "coarse"), [(1, 1), (4, 4), (8, 8), (16, 8), (32, 8), (48, 8)])
def test_coarsening_by_loops(side: int, coarse: int) -> None:
    embeddings = np.random.default_rng(side).normal(size=(2, 2, side * side, 3)).astype(np.float32)
    found = coarsen(embeddings)
    assert coarse_side(side * side) == coarse
    assert (found.shape, found.dtype) == ((2, 2, coarse * coarse, 3), np.float32)
    block = side // coarse
    for row in range(coarse):
        for column in range(coarse):
            inside = [
                embeddings[:, :, y * side + x]
                for y in range(row * block, (row + 1) * block)
                for x in range(column * block, (column + 1) * block)
            ]
            np.testing.assert_allclose(found[:, :, row * coarse + column], sum(inside) / block**2, atol=1e-5)


def k_centres(samples: npt.NDArray[np.float32], size: int) -> set[int]:
    """Gonzalez's greedy, pair by pair."""
    middle = samples.astype(np.float64).mean(axis=0)
    taken = [min(range(len(samples)), key=lambda i: math.dist(samples[i], middle))]
    while len(taken) < size:
        farness = [min(math.dist(sample, samples[j]) for j in taken) for sample in samples]
        taken.append(farness.index(max(farness)))
    return set(taken)


@pytest.mark.parametrize("size", [1, 2, 5, 30, 59])
def test_the_coreset_is_that_of_the_naive_greedy(size: int) -> None:
    samples = np.random.default_rng(size).normal(size=(60, 4)).astype(np.float32)
    found = greedy_coreset(samples, size)
    assert len(found) == size
    assert set(found.tolist()) == k_centres(samples, size)
    assert found.tolist() == sorted(found.tolist())


def test_a_coreset_covers_what_a_random_choice_misses() -> None:
    """One stray among a thousand alike is always kept."""
    rng = np.random.default_rng(6)
    samples = np.concatenate([rng.normal(0, 0.01, (999, 3)), np.ones((1, 3))]).astype(np.float32)
    assert 999 in greedy_coreset(samples, 10)


@pytest.mark.parametrize("size", [4, 5, 100])
def test_a_coreset_of_all_is_all(size: int) -> None:
    samples = np.random.default_rng(7).normal(size=(4, 2)).astype(np.float32)
    assert greedy_coreset(samples, size).tolist() == [0, 1, 2, 3]
