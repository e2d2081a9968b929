from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import OAS
from sklearn.metrics import roc_auc_score

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.detectors import Coreset, Normal
from quarterturn.worker.contract.embeddings import Embeddings, rows
from quarterturn.worker.contract.framing import WHOLE, Framing, Layout
from quarterturn.worker.contract.gaussians import Gaussian
from quarterturn.worker.contract.manifest import Depth, EmbeddingSpec
from quarterturn.worker.fitting import normal
from quarterturn.worker.fitting.normal import NormalFit, auroc, weigh

VIEWS = 2
SPEC = EmbeddingSpec(
    framing=Framing(side=32),
    views=VIEWS,
    frame=4,
    places={"middle": Depth(grid=4, dimensions=3), "deep": Depth(grid=2, dimensions=5)},
    logits=4,
)
BOXED = Layout(16, 9, ((0, -3),))
EVERY = ("frame", "nearest.middle", "nearest.deep", "position", "learned")


def embeddings_of(rng: np.random.Generator, count: int) -> Embeddings:
    """Features of places that differ from each other, and hang together within each."""
    found = {}
    for name, shape in SPEC.outputs.items():
        mixing = rng.normal(size=(shape[-1], shape[-1]))
        found[name] = np.asarray(2 * rng.normal(size=shape) + rng.normal(size=(count, *shape)) @ mixing, np.float32)
    return found


def fitted(embeddings: Embeddings, coreset: int, batch: int = 7, spec: EmbeddingSpec = SPEC) -> NormalFit:
    count = len(embeddings["frame"])
    fit = NormalFit(spec, count, coreset)
    for start in range(0, count, batch):
        part = rows(embeddings, slice(start, start + batch))
        fit.add(part, [WHOLE] * len(part["frame"]))
    return fit


def gaussian_of(normal: Normal, detector: str) -> Gaussian:
    model = normal[detector]
    assert isinstance(model, Gaussian)
    return model


def members_of(normal: Normal, detector: str) -> Array:
    model = normal[detector]
    assert isinstance(model, Coreset)
    return model.members


def check_gaussian(model: Gaussian, v: int, p: int, samples: Array) -> None:
    """One of a model's Gaussians against scikit-learn's of the (n, D) samples."""
    oracle = OAS().fit(samples.astype(np.float64))
    whitening = model.whitening[v, p].astype(np.float64)
    np.testing.assert_allclose(model.mean[v, p], oracle.location_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(whitening @ oracle.covariance_ @ whitening.T, np.eye(samples.shape[1]), atol=1e-2)


def test_every_gaussian_agrees_with_scikit_learn() -> None:
    """By view: the frame's; by view and place: those of the deepest depth."""
    embeddings = embeddings_of(np.random.default_rng(1), 60)
    normal = fitted(embeddings, 1000).build()
    assert list(normal) == ["frame", "nearest.middle", "nearest.deep", "position"]
    frame, position = gaussian_of(normal, "frame"), gaussian_of(normal, "position")
    assert (frame.mean.shape[:2], position.mean.shape[:2]) == ((VIEWS, 1), (VIEWS, 4))
    for v in range(VIEWS):
        check_gaussian(frame, v, 0, embeddings["frame"][:, v])
        for p in range(4):
            check_gaussian(position, v, p, embeddings["places.deep"][:, v, p])


@pytest.mark.parametrize("coreset", [12, 1000])
@pytest.mark.parametrize("depth", ["middle", "deep"])
def test_members_are_features_of_good_places_as_they_are(depth: str, coreset: int) -> None:
    """Not whitened, each once, rounded to half precision; fewer places than the coreset takes are all of them."""
    embeddings = embeddings_of(np.random.default_rng(3), 30)
    members = members_of(fitted(embeddings, coreset).build(), f"nearest.{depth}")
    seen = embeddings[f"places.{depth}"]
    assert members.dtype == np.float32
    assert members.shape == (VIEWS, min(coreset, 30 * seen.shape[2]), seen.shape[3])
    np.testing.assert_array_equal(members, members.astype(np.float16))
    for v in range(VIEWS):
        everywhere = seen[:, v].reshape(-1, seen.shape[3])
        kept = [min(range(len(everywhere)), key=lambda i: math.dist(everywhere[i], one)) for one in members[v]]
        np.testing.assert_allclose(members[v], everywhere[kept], rtol=1e-3)
        assert len(set(kept)) == len(kept)


def test_the_members_that_most_good_places_are_nearest_to_come_first() -> None:
    embeddings = embeddings_of(np.random.default_rng(4), 60)
    model = fitted(embeddings, 15).build()["nearest.middle"]
    assert isinstance(model, Coreset)
    for v in range(VIEWS):
        samples = embeddings["places.middle"][:, v]
        places = samples.reshape(-1, 3)
        nearest = [min(range(15), key=lambda i: math.dist(place, model.members[v, i])) for place in places]
        counts = [nearest.count(i) for i in range(15)]
        assert counts == sorted(counts, reverse=True)
        for member, (picture, tile, row, column) in zip(model.members[v], model.origins[v].tolist(), strict=True):
            grid = math.isqrt(samples.shape[1])
            assert tile == 0
            np.testing.assert_allclose(member, samples[picture, row * grid + column], rtol=1e-3)


def test_members_leave_no_good_place_far() -> None:
    """None is farther from all members than the two members next to each other: what the greedy promises."""
    embeddings = embeddings_of(np.random.default_rng(8), 40)
    members = members_of(fitted(embeddings, 20).build(), "nearest.middle")
    for v in range(VIEWS):
        places = embeddings["places.middle"][:, v].reshape(-1, 3)
        farthest = max(min(math.dist(place, one) for one in members[v]) for place in places)
        apart = min(math.dist(one, other) for one, other in itertools.combinations(members[v], 2))
        assert farthest < apart + 0.01


@pytest.mark.parametrize("candidates", [40, 100, 240, 10_000])
def test_memory_does_not_grow_with_the_pictures(monkeypatch: pytest.MonkeyPatch, candidates: int) -> None:
    """As many places of each tile are kept as make up the candidates, and never the same place twice."""
    monkeypatch.setattr(normal, "_CANDIDATES", candidates)
    kept = members_of(fitted(embeddings_of(np.random.default_rng(4), 40), 10_000).build(), "nearest.middle")
    each = min(16, math.ceil(candidates / 40))
    assert kept.shape[1] == 40 * each
    for v in range(VIEWS):
        assert len(np.unique(kept[v], axis=0)) == kept.shape[1]


def test_candidates_come_from_all_places_and_the_same_ones_in_every_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normal, "_CANDIDATES", 200)
    embeddings = embeddings_of(np.random.default_rng(0), 200)
    embeddings["places.middle"][..., 0] = np.arange(16)
    embeddings["places.middle"][..., 1] = np.arange(200)[:, None, None]
    taken = members_of(fitted(embeddings, 10_000).build(), "nearest.middle")
    assert taken.shape == (VIEWS, 200, 3)
    np.testing.assert_array_equal(taken[0, :, :2], taken[1, :, :2])
    np.testing.assert_array_equal(taken[0, :, 1], np.arange(200))  # one of each tile
    assert len(np.unique(taken[0, :, 0])) == 16


def same(one: Normal, other: Normal, **tolerance: float) -> None:
    assert list(one) == list(other)
    for mine, theirs in zip(one.values(), other.values(), strict=True):
        for name, values in vars(mine).items():
            np.testing.assert_allclose(values, vars(theirs)[name], **tolerance)


def test_a_fit_is_the_same_every_time() -> None:
    embeddings = embeddings_of(np.random.default_rng(5), 50)
    one, again = (fitted(embeddings, 20).build() for _ in range(2))
    same(one, again, rtol=0, atol=0)


def test_batches_of_any_size_give_the_same_gaussians() -> None:
    embeddings = embeddings_of(np.random.default_rng(6), 50)
    whole = [one for one in fitted(embeddings, 20).build() if not one.startswith("nearest")]
    one, other = (fitted(embeddings, 20, batch).build(whole) for batch in (50, 3))
    same(one, other, rtol=2e-3, atol=1e-4)  # positions are rounded to half precision


def test_what_is_asked_for_is_built_and_more_may_be_added_afterwards() -> None:
    embeddings = embeddings_of(np.random.default_rng(7), 40)
    fit = fitted(rows(embeddings, slice(25)), 1000)
    first = fit.build(("position", "frame", "learned"))
    assert list(first) == ["frame", "position"]
    fit.add(rows(embeddings, slice(25, 40)), [WHOLE] * 15)
    check_gaussian(gaussian_of(first, "frame"), 0, 0, embeddings["frame"][:25, 0])
    check_gaussian(gaussian_of(fit.build(), "frame"), 0, 0, embeddings["frame"][:, 0])
    assert members_of(fit.build(), "nearest.deep").shape[1] == 40 * 4


@pytest.mark.parametrize("odd_one", [0, 2, 5])
def test_pictures_of_another_layout_leave_no_gaussians_of_each_position(odd_one: int) -> None:
    """Wherever the first such picture comes: in the first batch, a later one or the last."""
    rng = np.random.default_rng(7)
    fit = NormalFit(SPEC, 12, 1000)
    for number in range(6):
        fit.add(embeddings_of(rng, 2), [WHOLE, BOXED if number == odd_one else WHOLE])
    normal = fit.build()
    assert list(normal) == ["frame", "nearest.middle", "nearest.deep"]
    assert members_of(normal, "nearest.deep").shape[1] == 48


scores = st.lists(st.integers(0, 12), min_size=1, max_size=40)


@given(scores, scores)
def test_auroc_agrees_with_scikit_learn(good: list[int], bad: list[int]) -> None:
    expected = roc_auc_score([0] * len(good) + [1] * len(bad), good + bad)
    assert auroc(np.array(good, np.float32), np.array(bad, np.float32)) == pytest.approx(expected)


def telling(found: Sequence[float]) -> tuple[Array, Array]:
    """Distances of one clean picture and a hundred pasted ones; of these each detector sees its share in `found`."""
    pasted = np.where(np.arange(100)[:, None] < np.round(np.array(found) * 100), 7, 1)
    return np.full((1, len(found)), 3, np.float32), pasted.astype(np.float32)


def shares(found: dict[str, float]) -> dict[str, float]:
    """The votes of detectors that find these shares of the anomalies."""
    clean, pasted = telling(list(found.values()))
    votes, table = weigh(tuple(found), [clean], [pasted])
    assert table == pytest.approx(found)
    return votes


def earned(found: dict[str, float]) -> dict[str, float]:
    """One over the square of what is missed and .02; `learned` misses .05 more."""
    counts = {name: 1 / (1.02 - value + 0.05 * (name == "learned")) ** 2 for name, value in found.items()}
    return {name: count / sum(counts.values()) for name, count in counts.items()}


def shares_in_words(found: dict[str, float]) -> dict[str, float]:
    """What is earned; where `frame` has earned less than .05 beside others, they have .95 among them."""
    if set(found) == {"frame"} or earned(found).get("frame", 1) >= 0.05:
        return earned(found)
    others = earned({name: value for name, value in found.items() if name != "frame"})
    return {name: 0.05 if name == "frame" else 0.95 * others[name] for name in found}


each_finds = st.dictionaries(st.sampled_from(EVERY), st.integers(0, 100).map(lambda percent: percent / 100), min_size=1)


@given(each_finds)
def test_shares_are_those_of_the_rule_in_words(found: dict[str, float]) -> None:
    votes = shares(found)
    assert list(votes) == list(found)  # as asked: a bank's arrays are in this order
    assert votes == pytest.approx(shares_in_words(found), rel=1e-9)


@given(each_finds)
def test_what_holds_of_shares_whatever_the_rule(found: dict[str, float]) -> None:
    votes = shares(found)
    assert sum(votes.values()) == pytest.approx(1, abs=1e-12)
    assert all(vote > 0 for vote in votes.values())
    lifted = {"frame"} if votes.get("frame", 1) < 0.05 * (1 + 1e-9) else set()
    for one, other in itertools.permutations(set(found) - {"learned"} - lifted, 2):
        if found[one] > found[other]:
            assert votes[one] > votes[other]
        if found[one] == found[other]:
            assert votes[one] == pytest.approx(votes[other])
    for other in set(found) - {"learned"}:
        if "learned" in found and found["learned"] <= found[other]:
            assert votes["learned"] < votes[other]  # alike, it counts less


each_beside_frame = st.fixed_dictionaries(
    {"frame": st.integers(0, 100), "nearest.deep": st.integers(0, 100)},
    optional={one: st.integers(0, 100) for one in EVERY if one not in ("frame", "nearest.deep")},
).map(lambda found: {one: percent / 100 for one, percent in found.items()})


@given(each_beside_frame)
def test_the_frame_has_a_twentieth_at_least_and_loses_nothing_that_it_earned(found: dict[str, float]) -> None:
    """And the others share the rest among them as they would without it."""
    votes = shares(found)
    assert votes["frame"] >= 0.05 * (1 - 1e-9)
    assert votes["frame"] == pytest.approx(max(0.05, earned(found)["frame"]), rel=1e-9)
    without = shares({one: value for one, value in found.items() if one != "frame"})
    for one, share in without.items():
        assert votes[one] == pytest.approx((1 - votes["frame"]) * share, rel=1e-9)


@given(st.integers(0, 100))
def test_the_frame_alone_has_all_of_the_score(percent: int) -> None:
    assert shares({"frame": percent / 100}) == {"frame": 1}


@pytest.mark.parametrize("other", ["nearest.deep", "position", "learned"])
def test_no_other_detector_has_a_least_share(other: str) -> None:
    """Not where `frame` votes, nor where it does not."""
    assert shares({"nearest.middle": 1.0, other: 0.0})[other] < 0.001
    assert shares({"frame": 1.0, "nearest.middle": 1.0, other: 0.0})[other] < 0.001


def test_who_misses_half_as_much_counts_nearly_four_times_as_much() -> None:
    votes = shares({"nearest.middle": 0.8, "nearest.deep": 0.6})
    assert votes["nearest.middle"] / votes["nearest.deep"] == pytest.approx((0.42 / 0.22) ** 2)
    perfect = shares({"nearest.middle": 1.0, "nearest.deep": 0.98})
    assert perfect["nearest.middle"] / perfect["nearest.deep"] == pytest.approx(4)


def test_where_none_is_better_all_count_alike() -> None:
    for value in (0.0, 0.5, 1.0):
        assert shares(dict.fromkeys(EVERY[:-1], value)) == pytest.approx(dict.fromkeys(EVERY[:-1], 1 / 4))
    assert shares({"learned": 0.3}) == {"learned": 1}


def test_learned_is_doubted_where_the_frame_is_lifted_too() -> None:
    votes = shares({"frame": 0.5, "nearest.deep": 0.95, "learned": 1.0})
    assert votes == pytest.approx({"frame": 0.05, "nearest.deep": 0.475, "learned": 0.475})


def test_learned_counts_as_if_it_missed_a_twentieth_more() -> None:
    votes = shares({"nearest.deep": 0.9, "position": 0.85, "learned": 0.9})
    assert votes["learned"] == pytest.approx(votes["position"])
    assert votes["nearest.deep"] / votes["learned"] == pytest.approx((0.17 / 0.12) ** 2)
    assert shares({"nearest.deep": 0.95, "learned": 1.0}) == pytest.approx({"nearest.deep": 0.5, "learned": 0.5})


@pytest.mark.parametrize("place", ["nearest.middle", "position"])
def test_the_whole_frame_counts_by_what_it_finds_but_a_twentieth_at_least(place: str) -> None:
    assert shares({"frame": 1.0, place: 0.98}) == pytest.approx({"frame": 0.8, place: 0.2})
    assert shares({"frame": 0.98, place: 1.0}) == pytest.approx({"frame": 0.2, place: 0.8})
    assert shares({"frame": 0.94, place: 1.0}) == pytest.approx({"frame": 1 / 17, place: 16 / 17})  # just above
    for found in (0.92, 0.62, 0.0):
        assert shares({"frame": found, place: 1.0}) == pytest.approx({"frame": 0.05, place: 0.95})


@pytest.mark.parametrize("seed", range(5))
def test_the_table_agrees_with_scikit_learn_whatever_the_units(seed: int) -> None:
    """Product by product, each counting alike however many pictures it has: a mean of their AUROCs."""
    rng = np.random.default_rng(seed)
    shifts = rng.uniform(0, 3, (3, len(EVERY)))
    clean = [rng.normal(size=(count, len(EVERY))).astype(np.float32) for count in (200, 20, 1)]
    pasted = [
        (rng.normal(size=(count, len(EVERY))) + shift).astype(np.float32)
        for count, shift in zip((400, 40, 2), shifts, strict=True)
    ]
    votes, table = weigh(EVERY, clean, pasted)
    for k, detector in enumerate(EVERY):
        each = [
            roc_auc_score([0] * len(good) + [1] * len(bad), [*good[:, k], *bad[:, k]])
            for good, bad in zip(clean, pasted, strict=True)
        ]
        assert table[detector] == pytest.approx(sum(each) / 3, abs=6e-5)
    assert votes == pytest.approx(shares_in_words(table), rel=0.01)  # the table is rounded
    units = rng.choice(np.array([0.125, 1, 16, 1024], np.float32), len(EVERY))
    assert weigh(EVERY, [one * units for one in clean], [one * units for one in pasted]) == (votes, table)
