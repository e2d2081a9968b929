from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.detectors import (
    Coreset,
    Normal,
    between_views,
    distances,
    from_products,
    greedy_coreset,
    position_axes,
    samples_of,
    sees_places,
    shape_of,
    supported,
)
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.gaussians import Gaussian, Moments, stacked
from quarterturn.worker.contract.manifest import Depth, EmbeddingSpec

Doubles = npt.NDArray[np.float64]
VIEWS = 2
SPEC = EmbeddingSpec(
    framing=Framing(side=32),
    views=VIEWS,
    frame=6,
    places={"middle": Depth(grid=4, dimensions=5), "deep": Depth(grid=2, dimensions=7)},
    logits=8,
)
SHAPES = {  # of what each detector compares in one view, written out
    "frame": (1, 6),
    "nearest.middle": (16, 5),
    "nearest.deep": (4, 7),
    "position": (4, 7),  # of the last depth
}


def unit(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def random_gaussians(rng: np.random.Generator, *shape: int) -> tuple[Gaussian, Doubles]:
    """Gaussians (*shape, D) with their whitening W, WᵀW = Σ⁻¹, by a QR decomposition, and their covariances Σ."""
    *_, dimensions = shape
    mixing = rng.normal(size=(*shape, dimensions)) + 3 * np.sqrt(dimensions) * np.eye(dimensions)
    factor = np.linalg.qr(mixing.swapaxes(-1, -2), mode="r").swapaxes(-1, -2)  # Σ = LLᵀ
    mean = rng.normal(size=shape)
    gaussian = Gaussian.of(mean.astype(np.float32), np.asarray(np.linalg.inv(factor), np.float32))
    return gaussian, mixing @ mixing.swapaxes(-1, -2)


def random_embeddings(rng: np.random.Generator, count: int) -> Embeddings:
    return {name: rng.normal(size=(count, *shape)).astype(np.float32) for name, shape in SPEC.outputs.items()}


def coreset(members: Array) -> Coreset:
    """One whose members come from nowhere."""
    return Coreset(members, np.full((*members.shape[:2], 4), -1))


RNG = np.random.default_rng(0)
FRAMES = random_embeddings(RNG, 3)
NORMAL: dict[str, Gaussian | Coreset] = {}
COVARIANCES: dict[str, Doubles] = {}
for name, (places, dimensions) in SHAPES.items():
    if name.startswith("nearest"):
        NORMAL[name] = coreset(RNG.normal(size=(VIEWS, 7, dimensions)).astype(np.float32))
    else:
        NORMAL[name], COVARIANCES[name] = random_gaussians(RNG, VIEWS, places, dimensions)


def compared(detector: str, embeddings: Embeddings, n: int, v: int, p: int) -> Doubles:
    """What a detector compares of one frame, view and place."""
    if detector == "frame":
        return embeddings["frame"][n, v].astype(np.float64)
    depth = "deep" if detector == "position" else detector.removeprefix("nearest.")
    return embeddings[f"places.{depth}"][n, v, p].astype(np.float64)


def mahalanobis(vector: Doubles, mean: npt.NDArray[np.floating], covariance: Doubles) -> float:
    difference = vector - mean
    return math.sqrt(difference @ np.linalg.solve(covariance, difference))


def test_what_an_engine_says_decides_which_detectors_there_are() -> None:
    whole = SPEC.model_copy(update={"places": {}, "logits": None})
    assert supported(whole) == ("frame",)
    assert supported(whole.model_copy(update={"logits": 4})) == ("frame", "learned")
    assert supported(SPEC) == (*SHAPES, "learned")
    assert [one for one in supported(SPEC) if not sees_places(one)] == ["frame"]


@pytest.mark.parametrize("depths", [("middle", "deep"), ("deep", "middle"), ("a.b",), ("position",)], ids=str)
def test_there_is_one_position_and_it_is_of_the_last_depth(depths: tuple[str, ...]) -> None:
    """Whatever its name; an engine lists its depths from shallow to deep."""
    places = {name: Depth(grid=2 ** (k + 1), dimensions=3 + k) for k, name in enumerate(depths)}
    spec = SPEC.model_copy(update={"places": places})
    assert supported(spec) == ("frame", *(f"nearest.{name}" for name in depths), "position", "learned")
    assert shape_of("position", spec) == (4 ** len(depths), 2 + len(depths))
    rng = np.random.default_rng(0)
    embeddings = {name: rng.normal(size=(1, *shape)).astype(np.float32) for name, shape in spec.outputs.items()}
    np.testing.assert_array_equal(samples_of("position", embeddings), embeddings[f"places.{depths[-1]}"])


@pytest.mark.parametrize("detector", SHAPES)
def test_what_a_detector_compares(detector: str) -> None:
    found = samples_of(detector, FRAMES)
    places, dimensions = SHAPES[detector]
    assert shape_of(detector, SPEC) == (places, dimensions)
    assert (found.shape, found.dtype) == ((3, VIEWS, places, dimensions), np.float32)
    for n, v, p in np.ndindex(3, VIEWS, places):
        np.testing.assert_allclose(found[n, v, p], compared(detector, FRAMES, n, v, p), atol=1e-6)


@pytest.mark.parametrize(("grid", "dimensions", "axes"), [(8, 304, 128), (16, 112, 64), (16, 40, 40), (64, 20, 16)])
def test_position_looks_along_the_first_axes_only(grid: int, dimensions: int, axes: int) -> None:
    """As many as leave all Gaussians of a view below 2²⁰ numbers."""
    spec = SPEC.model_copy(update={"places": {"deep": Depth(grid=grid, dimensions=dimensions)}})
    assert position_axes(grid**2, dimensions) == axes
    assert shape_of("position", spec) == (grid**2, axes)
    assert shape_of("nearest.deep", spec) == (grid**2, dimensions)
    places = np.random.default_rng(0).normal(size=(1, 1, grid**2, dimensions)).astype(np.float32)
    np.testing.assert_array_equal(samples_of("position", {"places.deep": places}), places[..., :axes])
    np.testing.assert_array_equal(samples_of("nearest.deep", {"places.deep": places}), places)


@pytest.mark.parametrize("detector", COVARIANCES)
def test_distances_to_gaussians_by_solving_for_every_vector(detector: str) -> None:
    """One for each view of the frame; one for each view and place of a position."""
    found, model = distances(detector, FRAMES, NORMAL), NORMAL[detector]
    assert isinstance(model, Gaussian)
    places = SHAPES[detector][0]
    assert (found.shape, found.dtype) == ((3, VIEWS, places), np.float32)
    for n, v, p in np.ndindex(3, VIEWS, places):
        vector = compared(detector, FRAMES, n, v, p)
        expected = mahalanobis(vector, model.mean[v, p], COVARIANCES[detector][v, p])
        assert found[n, v, p] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("members", [1, 2, 7])
@pytest.mark.parametrize("detector", ["nearest.middle", "nearest.deep"])
def test_nearest_by_brute_force(detector: str, members: int) -> None:
    """Plain Euclidean distances to the one nearest of the members, not whitened."""
    whole = NORMAL[detector]
    assert isinstance(whole, Coreset)
    model = coreset(whole.members[:, :members])
    found = distances(detector, FRAMES, {detector: model})
    places = SHAPES[detector][0]
    assert (found.shape, found.dtype) == ((3, VIEWS, places), np.float32)
    for n, v, p in np.ndindex(3, VIEWS, places):
        place = compared(detector, FRAMES, n, v, p)
        nearest = min(math.dist(place, one) for one in model.members[v].astype(np.float64))
        assert found[n, v, p] == pytest.approx(nearest, rel=1e-4)


def test_nearest_over_more_queries_than_one_matrix_product_takes() -> None:
    """Blocks of queries give what each gives alone."""
    frames = random_embeddings(np.random.default_rng(1), 140)  # of 16 places
    together = distances("nearest.middle", frames, NORMAL)
    for n in (0, 1, 63, 64, 65, 139):
        alone = distances("nearest.middle", {name: values[n : n + 1] for name, values in frames.items()}, NORMAL)
        np.testing.assert_allclose(alone[0], together[n], rtol=1e-4)


@given(st.lists(st.floats(-100, 60, width=32), min_size=1, max_size=12))
def test_learned_is_the_logit_above_its_floor_whatever_the_product(logits: list[float]) -> None:
    """Below −20 a place is as good as it gets."""
    found = distances("learned", {"logits": np.array(logits, np.float32).reshape(1, 1, -1)}, {})
    assert (found.shape, found.dtype) == ((1, 1, len(logits)), np.float32)
    np.testing.assert_allclose(found[0, 0], [max(0.0, logit + 20) for logit in logits], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("views", [1, 2, 4])
def test_a_frame_beside_the_gaussians_of_all_orientations(views: int) -> None:
    gaussian, covariances = random_gaussians(np.random.default_rng(2), 4, 1, 6)
    frames = unit(np.random.default_rng(3).normal(size=(5, views, 6)))
    found = between_views(frames, gaussian)
    assert (found.shape, found.dtype) == ((5, views, 4), np.float32)
    for n, v, w in np.ndindex(5, views, 4):
        expected = mahalanobis(frames[n, v].astype(np.float64), gaussian.mean[w, 0], covariances[w, 0])
        assert found[n, v, w] == pytest.approx(expected, rel=1e-3)
    own = distances("frame", {"frame": frames}, {"frame": gaussian})[:, :, 0]
    np.testing.assert_allclose(np.diagonal(found, axis1=1, axis2=2), own, rtol=1e-4)
    assert between_views(frames[:0], gaussian).shape == (0, views, 4)


@pytest.mark.parametrize("views", [1, 2, 4])
def test_a_frame_beside_all_products(views: int) -> None:
    """Each view beside the Gaussian of its own orientation, as by one product after the other."""
    rng = np.random.default_rng(4)
    gaussians = [random_gaussians(rng, 4, 1, 6) for _ in range(3)]
    frames = unit(rng.normal(size=(5, views, 6)))
    found = from_products(frames, stacked([gaussian for gaussian, _ in gaussians]))
    assert (found.shape, found.dtype) == ((5, 3, views), np.float32)
    for n, c, v in np.ndindex(5, 3, views):
        gaussian, covariances = gaussians[c]
        expected = mahalanobis(frames[n, v].astype(np.float64), gaussian.mean[v, 0], covariances[v, 0])
        assert found[n, c, v] == pytest.approx(expected, rel=1e-3)
    assert from_products(frames[:0], stacked([gaussian for gaussian, _ in gaussians])).shape == (0, 3, views)


def test_a_coreset_holds_its_members_once() -> None:
    """For a search and for the bank's file alike; what it was made from may go."""
    members = np.random.default_rng(0).normal(size=(2, 9, 3)).astype(np.float32)
    coreset = Coreset(members, np.zeros((2, 9, 4), np.intp))
    np.testing.assert_array_equal(coreset.members, members)
    assert np.shares_memory(coreset.members, coreset.lifted)
    assert not np.shares_memory(coreset.members, members)


@pytest.mark.parametrize("kind", ["frame", "nearest.deep", "position"])
def test_a_distance_is_never_negative(kind: str) -> None:
    """The square of the distance of a vector to itself, by expanding it, rounds to below 0 for many of these."""
    normal = unit(np.random.default_rng(1).normal(size=(200, 1, 64)) + 3)
    moments = Moments(1, 1, dimensions=64)
    moments.add(normal[:, :, None])
    model = coreset(normal[:, 0][None]) if kind == "nearest.deep" else moments.gaussian()
    embeddings = {"frame": normal} if kind == "frame" else {"places.deep": normal[:, :, None]}
    found = distances(kind, embeddings, {kind: model})
    assert np.isfinite(found).all()
    assert found.min() >= 0
    if kind == "nearest.deep":
        assert found.max() < 0.02


@pytest.mark.parametrize("detector", supported(SPEC))
def test_frames_are_measured_independently_and_none_gives_none(detector: str) -> None:
    def some(which: slice) -> Any:
        return distances(detector, {name: values[which] for name, values in FRAMES.items()}, NORMAL)

    together = some(slice(None))
    for n in range(3):
        np.testing.assert_allclose(some(slice(n, n + 1))[0], together[n], rtol=1e-4, atol=1e-6)
    assert some(slice(0)).shape == (0, *together.shape[1:])


def test_a_detector_that_the_bank_was_not_fitted_for_is_refused() -> None:
    without: Normal = {name: model for name, model in NORMAL.items() if name != "position"}
    with pytest.raises(ValueError, match=r"not fitted for the detector position$"):
        distances("position", FRAMES, without)


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


def test_looking_for_the_nearest_leaves_places_and_members_as_they_are() -> None:
    """What is worked out in place is not what was given; also of one view, which is not copied."""
    rng = np.random.default_rng(8)
    places, members = (rng.normal(size=(1, 1, count, 3)).astype(np.float32) for count in (30, 9))
    before = places.copy(), members.copy()
    greedy_coreset(places[0, 0], 5)
    found = [distances("nearest.deep", {"places.deep": places}, {"nearest.deep": coreset(members[0])}) for _ in "ab"]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(places, before[0])
    np.testing.assert_array_equal(members, before[1])
