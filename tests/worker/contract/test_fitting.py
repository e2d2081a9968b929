from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.covariance import OAS
from sklearn.metrics import roc_auc_score

from worker.contract import fitting
from worker.contract.detectors import Detector
from worker.contract.fitting import NormalFit, auroc, choose_detectors
from worker.contract.framing import Framing, Layout
from worker.contract.manifest import EmbeddingSpec

Array = npt.NDArray[np.float32]
WHOLE = Layout(16, 16, ((0, 0),))
THREE: tuple[Detector, ...] = ("mahalanobis", "position", "knn")


def spec_of(positions: int, views: int = 2, dimensions: int = 3) -> EmbeddingSpec:
    return EmbeddingSpec(framing=Framing(side=32), views=views, positions=positions, dimensions=dimensions)


def embeddings_of(rng: np.random.Generator, count: int, positions: int, views: int = 2, dimensions: int = 3) -> Array:
    centres = rng.normal(size=(views, positions, dimensions))
    vectors = centres + rng.normal(size=(count, views, positions, dimensions)) * 0.5
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def fitted(embeddings: Array, coreset: int, batch: int = 7) -> NormalFit:
    fit = NormalFit(spec_of(embeddings.shape[2]), len(embeddings), coreset)
    for start in range(0, len(embeddings), batch):
        part = embeddings[start : start + batch]
        fit.add(part, [WHOLE] * len(part))
    return fit


@pytest.mark.parametrize("positions", [1, 4, 16])
def test_what_is_fitted_agrees_with_scikit_learn(positions: int) -> None:
    embeddings = embeddings_of(np.random.default_rng(positions), 40, positions)
    normal = fitted(embeddings, 1000).build()
    assert (normal.places is None) == (positions == 1)
    for v in range(2):
        oracle = OAS().fit(embeddings[:, v].reshape(-1, 3).astype(np.float64))
        whitening = normal.everywhere.whitening[v].astype(np.float64)
        np.testing.assert_allclose(normal.everywhere.mean[v], oracle.location_, atol=1e-5)
        np.testing.assert_allclose(whitening @ oracle.covariance_ @ whitening.T, np.eye(3), atol=1e-3)
        for p in range(positions if normal.places else 0):
            assert normal.places is not None
            oracle = OAS().fit(embeddings[:, v, p].astype(np.float64))
            whitening = normal.places.whitening[v, p].astype(np.float64)
            np.testing.assert_allclose(normal.places.mean[v, p], oracle.location_, atol=1e-5)
            np.testing.assert_allclose(whitening @ oracle.covariance_ @ whitening.T, np.eye(3), atol=1e-3)


@pytest.mark.parametrize(("positions", "coreset"), [(1, 12), (1, 1000), (4, 12), (4, 1000)])
def test_the_neighbours_are_whitened_embeddings_of_the_good_parts(positions: int, coreset: int) -> None:
    embeddings = embeddings_of(np.random.default_rng(3), 30, positions)
    normal = fitted(embeddings, coreset).build()
    assert normal.neighbours.dtype == np.float32
    assert normal.neighbours.shape == (2, min(coreset, 30 * positions), 3)
    for v in range(2):
        back = np.linalg.inv(normal.everywhere.whitening[v].astype(np.float64))
        all_seen = embeddings[:, v].reshape(-1, 3)
        kept = [
            min(range(len(all_seen)), key=lambda i: math.dist(all_seen[i], unwhitened))
            for unwhitened in normal.neighbours[v] @ back.T + normal.everywhere.mean[v]
        ]
        unwhitened = normal.neighbours[v] @ back.T + normal.everywhere.mean[v]
        np.testing.assert_allclose(unwhitened, all_seen[kept], atol=1e-4)
        assert len(set(kept)) == len(kept)


@pytest.mark.parametrize("candidates", [40, 100, 240, 10_000])
def test_memory_does_not_grow_with_the_pictures(monkeypatch: pytest.MonkeyPatch, candidates: int) -> None:
    """As many places of each tile are kept as make up the candidates, and never the same place twice."""
    monkeypatch.setattr(fitting, "_CANDIDATES", candidates)
    embeddings = embeddings_of(np.random.default_rng(4), 40, 16)
    fit = fitted(embeddings, 10_000)
    kept = fit.build().neighbours
    each = min(16, math.ceil(candidates / 40))
    assert kept.shape[1] == 40 * each == sum(len(one) for one in fit._candidates)
    assert kept.shape[1] < candidates + 40
    for v in range(2):
        assert len(np.unique(kept[v], axis=0)) == kept.shape[1]


def test_candidates_come_from_all_places_and_the_same_ones_in_every_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_CANDIDATES", 200)
    embeddings = np.zeros((200, 2, 16, 3), np.float32)
    embeddings[..., 0] = np.arange(16)
    embeddings[..., 1] = np.arange(200)[:, None, None]
    embeddings[..., 2] = np.random.default_rng(0).random((200, 2, 16))
    fit = fitted(embeddings, 10_000)
    taken = np.concatenate(fit._candidates)
    assert taken.shape == (200, 2, 3)
    np.testing.assert_array_equal(taken[:, 0, :2], taken[:, 1, :2])
    np.testing.assert_array_equal(taken[:, 0, 1], np.arange(200))  # one of each tile
    assert len(np.unique(taken[:, 0, 0])) == 16


def test_a_fit_is_the_same_every_time() -> None:
    embeddings = embeddings_of(np.random.default_rng(5), 50, 16)
    one, again = (fitted(embeddings, 20).build() for _ in range(2))
    np.testing.assert_array_equal(one.neighbours, again.neighbours)
    np.testing.assert_array_equal(one.everywhere.whitening, again.everywhere.whitening)


def test_batches_of_any_size_give_the_same_gaussians() -> None:
    embeddings = embeddings_of(np.random.default_rng(6), 50, 4)
    one, other = fitted(embeddings, 20, batch=50).build(), fitted(embeddings, 20, batch=3).build()
    np.testing.assert_allclose(one.everywhere.whitening, other.everywhere.whitening, rtol=1e-5, atol=1e-6)
    assert one.places is not None
    assert other.places is not None
    np.testing.assert_allclose(one.places.whitening, other.places.whitening, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("odd_one", [0, 2, 5])
def test_pictures_of_another_layout_leave_no_gaussians_of_each_position(odd_one: int) -> None:
    """Wherever the first such picture comes: in no batch, the first or the last."""
    rng = np.random.default_rng(7)
    fit = NormalFit(spec_of(4), 12, 1000)
    for number in range(6):
        layouts = [WHOLE, WHOLE]
        if number == odd_one:
            layouts = [WHOLE, Layout(16, 9, ((0, -3),))]
        fit.add(embeddings_of(rng, 2, 4), layouts)
    normal = fit.build()
    assert normal.places is None
    assert normal.detectors == ("mahalanobis", "knn")
    assert normal.neighbours.shape[1] == 48


def test_a_grid_finer_than_8_is_coarsened_before_it_is_fitted() -> None:
    embeddings = embeddings_of(np.random.default_rng(8), 3, 1024)
    normal = fitted(embeddings, 5000).build()
    assert normal.places is not None
    assert normal.places.mean.shape == (2, 64, 3)
    assert normal.neighbours.shape == (2, 3 * 64, 3)
    corner = embeddings.reshape(3, 2, 32, 32, 3)[:, :, :4, :4].mean(axis=(0, 2, 3))  # the first block of the grid
    np.testing.assert_allclose(normal.places.mean[:, 0], corner, atol=1e-6)


scores = st.lists(st.integers(0, 12), min_size=1, max_size=40)


@given(scores, scores)
def test_auroc_agrees_with_scikit_learn(good: list[int], bad: list[int]) -> None:
    expected = roc_auc_score([0] * len(good) + [1] * len(bad), good + bad)
    assert auroc(np.array(good, np.float32), np.array(bad, np.float32)) == pytest.approx(expected)


def drawn(rng: np.random.Generator, shifts: Sequence[Sequence[float]], count: int) -> Array:
    """`count` distances for each row of `shifts`: by how much each detector's rise for one kind of defect."""
    return np.concatenate([rng.normal(size=(count, len(row))) + row for row in shifts]).astype(np.float32) + 10


CLEAN = (0.0, 0.0, 0.0)


def test_a_useless_detector_is_not_taken() -> None:
    rng = np.random.default_rng(0)
    clean, spoiled = drawn(rng, [CLEAN], 300), drawn(rng, [(0, 2, 0)], 300)
    chosen, table = choose_detectors(THREE, [clean], [spoiled])
    assert chosen == ("position",)
    assert table["position"] > 0.9
    assert table["mahalanobis"] == pytest.approx(0.5, abs=0.06)
    assert max(value for name, value in table.items() if "+" in name) < table["position"]


def test_two_detectors_that_see_different_defects_are_both_taken() -> None:
    rng = np.random.default_rng(1)
    clean, spoiled = drawn(rng, [CLEAN], 300), drawn(rng, [(2, 0, 0), (0, 0, 2)], 150)
    chosen, table = choose_detectors(THREE, [clean], [spoiled])
    assert chosen == ("mahalanobis", "knn")
    assert table["mahalanobis+knn"] > max(table["mahalanobis"], table["knn"]) + 0.1


def test_three_that_each_see_their_own_are_all_taken_in_order() -> None:
    rng = np.random.default_rng(3)
    kinds = [(0, 0, 7), (0, 6, 0), (5, 0, 0)]
    chosen, _ = choose_detectors(THREE, [drawn(rng, [CLEAN], 300)], [drawn(rng, kinds, 100)])
    assert chosen == THREE


def test_a_detector_that_does_no_harm_is_taken_too() -> None:
    """All three say the same, on other scales: together they find as much as one, and more of what is never pasted."""
    rng = np.random.default_rng(2)
    clean, spoiled = drawn(rng, [CLEAN[:1]], 300), drawn(rng, [(1.5,)], 300)
    scaled = [np.repeat(one, 3, axis=1) * np.array([1, 100, 0.01], np.float32) for one in (clean, spoiled)]
    chosen, table = choose_detectors(THREE, scaled[:1], scaled[1:])
    assert chosen == THREE
    assert max(table.values()) - min(table.values()) < 0.001


def test_of_several_equally_large_combinations_the_best_is_taken() -> None:
    """Two weak detectors err together: the strong one bears either, but not both."""
    rng = np.random.default_rng(7)
    noise = rng.normal(size=(2, 2000, 2))[:, :, [0, 1, 1]]
    clean, spoiled = (noise + np.array([[CLEAN], [(2.5, 0.3, 0.7)]]) + 10).astype(np.float32)
    chosen, table = choose_detectors(THREE, [clean], [spoiled])
    best = max(table.values())
    assert best - 0.05 <= table["mahalanobis+position"] < table["mahalanobis+knn"]
    assert table["mahalanobis+position+knn"] < best - 0.05
    assert chosen == ("mahalanobis", "knn")


@pytest.mark.parametrize("seed", range(30))
def test_the_most_detectors_that_find_nearly_as_many_are_taken_and_of_those_the_best(seed: int) -> None:
    """Against the rule in words, on random strengths."""
    rng = np.random.default_rng(seed)
    shifts = rng.uniform(0, 3, (3, 3)).tolist()
    chosen, table = choose_detectors(THREE, [drawn(rng, [CLEAN], 200)], [drawn(rng, shifts, 60)])
    useful = [name for name, value in table.items() if all(table[one] >= 0.52 for one in name.split("+"))]
    useful = useful or list(table)
    nearly = [name for name in useful if table[name] >= max(table[one] for one in useful) - 0.05]
    most = max(name.count("+") for name in nearly)
    best = max((name for name in nearly if name.count("+") == most), key=lambda name: table[name])
    assert "+".join(chosen) == best


@pytest.mark.parametrize(("second", "chosen"), [(1.0, ("knn", "learned")), (0.0, ("mahalanobis", "knn", "learned"))])
def test_learned_never_judges_alone(second: float, chosen: tuple[Detector, ...]) -> None:
    """It was trained on pasted defects; the best of the others joins it, be it as bad as chance."""
    rng = np.random.default_rng(0)
    three: tuple[Detector, ...] = ("mahalanobis", "knn", "learned")
    found, table = choose_detectors(three, [drawn(rng, [CLEAN], 200)], [drawn(rng, [(0, second, 3)], 200)])
    assert max(table, key=lambda name: table[name]) == "learned"
    assert found == chosen
    only, _ = choose_detectors(("learned",), [drawn(rng, [(0,)], 50)], [drawn(rng, [(3,)], 50)])
    assert only == ("learned",)


def test_every_product_counts_alike_however_many_pictures_it_has() -> None:
    """A thousand pictures of one product do not outvote two products of which there are few."""
    rng = np.random.default_rng(4)
    clean = [drawn(rng, [CLEAN[:2]], count) for count in (1000, 60, 60)]
    spoiled = [drawn(rng, [row], count) for row, count in (((3.0, 0.0), 1000), ((0.0, 8.0), 60), ((0.0, 8.0), 60))]
    chosen, table = choose_detectors(("mahalanobis", "knn"), clean, spoiled)
    assert table["knn"] > table["mahalanobis"]
    assert "knn" in chosen


def test_the_table_by_hand() -> None:
    """Every combination, product by product: logistic tails from median and 90% quantile, averaged, ranked."""
    rng = np.random.default_rng(5)
    clean = [drawn(rng, [CLEAN], 40), drawn(rng, [CLEAN], 30) * 2]
    spoiled = [drawn(rng, [(1, 0.5, 0)], 80), drawn(rng, [(0, 1, 0.5)], 60) * 2]
    _, table = choose_detectors(THREE, clean, spoiled)
    names = ["+".join(which) for size in (1, 2, 3) for which in itertools.combinations(THREE, size)]
    assert sorted(table) == sorted(names)
    for name in names:
        columns = [THREE.index(detector) for detector in THREE if detector in name.split("+")]
        each = []
        for good, bad in zip(clean, spoiled, strict=True):
            rarity = np.zeros(len(good) + len(bad))
            for k in columns:
                median, high = np.percentile(good[:, k].astype(np.float64), [50, 90])
                fitted_tail = stats.logistic(median, (high - median) / math.log(9))
                rarity -= fitted_tail.logsf(np.concatenate([good[:, k], bad[:, k]]).astype(np.float64))
            each.append(roc_auc_score([0] * len(good) + [1] * len(bad), rarity))
        assert table[name] == pytest.approx(sum(each) / 2, abs=1e-3)


def test_one_detector_is_the_choice() -> None:
    clean, spoiled = np.ones((4, 1), np.float32), np.zeros((8, 1), np.float32)
    assert choose_detectors(("knn",), [clean], [spoiled]) == (("knn",), {"knn": 0.0})


def test_a_single_picture_to_choose_by_is_enough() -> None:
    rng = np.random.default_rng(6)
    chosen, table = choose_detectors(THREE, [drawn(rng, [CLEAN], 1)], [drawn(rng, [(9, 0, 0)], 2)])
    assert "mahalanobis" in chosen
    assert table["mahalanobis"] == 1
