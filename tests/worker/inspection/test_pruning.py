"""Products that are left alone because they cannot win: what is said of a frame is what it is with all compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quarterturn.worker.inspection.scorer
from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.calibration import conformal_p_value
from quarterturn.worker.contract.detectors import supported
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.framing import WHOLE, Layout
from quarterturn.worker.inspection.judge import Judge
from quarterturn.worker.inspection.scorer import Scored, Scorer, Seen
from quarterturn.worker.inspection.scoring import combine, fit_scale, read
from quarterturn.worker.inspection.search import places
from tests.parts import unmeasured
from tests.worker.inspection.embeddings import BOXED, SPEC, TILED, bank_from, normal_of

KINDS = [
    supported(SPEC),
    ("position", "nearest.middle", "frame", "learned", "nearest.deep"),
    ("frame",),
    ("learned", "nearest.middle"),
    ("position", "nearest.deep"),
]


def scattered(rng: np.random.Generator, centre: Embeddings, count: int, spread: float = 1.0) -> Embeddings:
    """`count` tiles of a product that lies around `centre`."""
    return {
        name: np.asarray(values + rng.normal(size=(count, *values.shape)) * spread, np.float32)
        for name, values in centre.items()
    }


def many(
    rng: np.random.Generator, detectors: Sequence[str], products: int, apart: float
) -> tuple[Bank, list[Embeddings]]:
    """A calibrated bank of products that lie more or less `apart`, and where each lies."""
    shared = {name: rng.normal(size=shape) for name, shape in SPEC.outputs.items()}
    centres: list[Embeddings] = []
    for _ in range(products):
        own = {
            name: np.asarray(values + apart * rng.normal(size=values.shape), np.float32)
            for name, values in shared.items()
        }
        centres.append(own)
    normals = [normal_of(scattered(rng, centre, 15)) for centre in centres]
    bank = bank_from(normals, detectors)
    scales, calibration = [], []
    for c, centre in enumerate(centres):
        good = scattered(rng, centre, 20)
        readings = read(good, [WHOLE] * 20, normals[c : c + 1], bank.manifest.scoring, detectors)
        raw = np.concatenate([one.raw for one in readings])
        scales.append(fit_scale(raw))
        held_out = scattered(rng, centre, int(rng.integers(10, 40)))
        again = read(held_out, [WHOLE] * len(held_out["frame"]), normals[c : c + 1], bank.manifest.scoring, detectors)
        scores = combine(np.concatenate([one.raw for one in again]), scales[-1], [*bank.manifest.votes.values()])
        calibration.append(unmeasured(scores, rng.uniform(1, 4, 20), np.full(20, 0.8)))
    return replace(bank, scales=np.stack(scales), calibration=tuple(calibration)), centres


def shown(rng: np.random.Generator, centres: Sequence[Embeddings], layouts: Sequence[Layout]) -> Embeddings:
    """Good parts, odd ones, ones between two products, and frames that show nothing of any."""
    frames = []
    for layout in layouts:
        one, other = rng.integers(len(centres), size=2)
        share = rng.choice([0, 0, 0.5])
        between = {name: centres[one][name] * (1 - share) + centres[other][name] * share for name in centres[one]}
        scale = rng.choice([1, 1, 1, 0, 5])
        found = scattered(rng, between, len(layout.corners), rng.choice([0.5, 1, 3]))
        frames.append({name: np.asarray(scale * values, np.float32) for name, values in found.items()})
    return {name: np.concatenate([one[name] for one in frames]) for name in frames[0]}


def said(judge: Judge, scorer: Scorer, scored: Scored) -> tuple[object, ...]:
    """Everything of a verdict that follows from the scores; the heat map comes apart."""
    judgement = judge.judge(scored)
    return judgement.alert, judgement.product, judgement.nearest, judgement.threshold, judgement.reason


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(KINDS),
    st.integers(2, 12),
    st.sampled_from([0.0, 0.2, 0.5, 1.0, 3.0]),
    st.booleans(),
)
def test_a_verdict_is_the_same_as_with_all_products_compared(
    seed: int, detectors: Sequence[str], products: int, apart: float, named: bool
) -> None:
    """With products that are nearly alike or far apart, of frames that show one, something between two, or none."""
    rng = np.random.default_rng(seed)
    bank, centres = many(rng, detectors, products, apart)
    layouts = [WHOLE, WHOLE, BOXED, TILED, WHOLE, WHOLE]
    frames = shown(rng, centres, layouts)
    allowed = None
    if named:
        allowed = [rng.permutation(products)[: rng.integers(1, products + 1)].tolist() for _ in layouts]
    judge = Judge.of(bank, 0.1, {})
    everything, pruned = Scorer(bank), Scorer(bank, judge.undecided)
    complete = everything.score(frames, layouts, allowed)
    for full, found in zip(complete, pruned.score(frames, layouts, allowed), strict=True):
        assert set(full.maps) == set(full.products) == set(found.products)
        expected, judgement = judge.judge(full), judge.judge(found)
        assert said(judge, pruned, found) == said(judge, everything, full)
        assert judgement.score == pytest.approx(expected.score, rel=1e-4)
        assert judgement.p_value == pytest.approx(by_hand(bank, full), rel=1e-9)
        assert judgement.view_distances == pytest.approx(expected.view_distances, rel=1e-4)
        here = pruned.heat_map(found, judgement.product, judgement.threshold)
        there = everything.heat_map(full, expected.product, expected.threshold)
        np.testing.assert_allclose(here, there, rtol=1e-3, atol=1e-4)
        assert (found.scores <= full.scores * (1 + 1e-4)).all()


def by_hand(bank: Bank, full: Scored) -> float:
    """The largest p-value of all products."""
    return max(
        conformal_p_value(bank.calibration[c].scores, float(score))
        for c, score in zip(full.products, full.scores, strict=True)
    )


def test_only_what_can_still_win_is_searched_and_no_further_than_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-alike as a whole is left after the first detector that tells it, strangers without any search."""
    searched: list[str] = []

    def note(detector: str, *more: Any, **settings: Any) -> Array:
        searched.append(detector)
        return places(detector, *more, **settings)

    monkeypatch.setattr(quarterturn.worker.inspection.scorer, "places", note)
    rng = np.random.default_rng(0)
    bank, centres = many(rng, supported(SPEC), 8, 6.0)
    alike = {**bank.normals[1], "frame": bank.normals[0]["frame"]}
    scales = bank.scales.copy()
    scales[1, 0] = scales[0, 0]
    bank = replace(bank, normals=(bank.normals[0], alike, *bank.normals[2:]), scales=scales)
    scorer = Scorer(bank, Judge.of(bank, 0.1, {}).undecided)
    (found,) = scorer.score(scattered(rng, centres[0], 1, 0.5), [WHOLE])
    assert list(found.maps) == [0]
    assert searched == ["nearest.middle", "nearest.deep", "position", "position"]
    searched.clear()
    (found,) = Scorer(bank).score(scattered(rng, centres[0], 1, 0.5), [WHOLE])
    assert sorted(found.maps) == list(range(8))
    assert searched.count("nearest.middle") == 8


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.integers(1, 5))
def test_detectors_are_asked_side_by_side_where_nothing_can_stop_before_the_last(
    seed: int, detectors: Sequence[str], products: int
) -> None:
    rng = np.random.default_rng(seed)
    bank, centres = many(rng, detectors, products, 0.5)
    layouts = [WHOLE, TILED, WHOLE]
    frames, undecided = shown(rng, centres, layouts), Judge.of(bank, 0.1, {}).undecided
    together: list[list[str]] = []
    with ThreadPoolExecutor(2) as pool:

        def each(search: Callable[[str], Seen], asked: Iterable[str]) -> Iterable[Seen]:
            together.append([*asked])
            return pool.map(search, together[-1])

        found = Scorer(bank, undecided, each).score(frames, layouts)
    for one, alone in zip(found, Scorer(bank, undecided).score(frames, layouts), strict=True):
        np.testing.assert_array_equal(one.scores, alone.scores)
        assert one.maps.keys() == alone.maps.keys()
    searched = {name for name in detectors if name not in ("frame", "learned")}
    assert together
    assert {frozenset(names) for names in together} == {frozenset(searched)}


def test_frames_that_a_product_is_open_to_are_compared_with_it_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of a product is large: it is fetched once for all of them, whichever each is nearest to."""
    searched: list[int] = []

    def note(detector: str, embeddings: Embeddings, *more: Any, **settings: Any) -> Array:
        if detector == "position":
            searched.append(len(embeddings["places.deep"]))
        return places(detector, embeddings, *more, **settings)

    monkeypatch.setattr(quarterturn.worker.inspection.scorer, "places", note)
    rng = np.random.default_rng(2)
    bank, centres = many(rng, ("frame", "position"), 8, 3.0)
    frames = [scattered(rng, centre, 1) for centre in centres]
    Scorer(bank).score({name: np.concatenate([one[name] for one in frames]) for name in frames[0]}, [WHOLE] * 8)
    assert sum(searched) == 8 * 8
    assert len(searched) <= 8 + 7


def test_products_that_are_named_twice_are_compared_all_the_same() -> None:
    rng = np.random.default_rng(1)
    bank, centres = many(rng, ("frame", "nearest.deep"), 3, 1.0)
    judge = Judge.of(bank, 0.1, {})
    frames = scattered(rng, centres[1], 1)
    (once,) = Scorer(bank, judge.undecided).score(frames, [WHOLE], [(1, 2)])
    (twice,) = Scorer(bank, judge.undecided).score(frames, [WHOLE], [(1, 1, 2)])
    assert judge.judge(twice) == judge.judge(once)


@pytest.mark.parametrize(
    ("so_far", "complete", "undecided"),
    [
        ([0.0, 0.0, 0.0], [False, False, False], [True, True, True]),  # nothing to compare with
        ([1.0, 1.5, 20.0], [True, False, False], [False, True, False]),  # 1.5 of 2 fits better than 1 of 1
        ([1.0, 2.0, 20.0], [True, False, False], [False, True, False]),  # as well
        ([1.0, 2.1, 20.0], [True, False, False], [False, False, False]),  # neither fits better nor is likelier
        ([1.0, 2.1, 11.0], [True, False, False], [False, False, True]),  # worse, but likelier
        ([4.0, 8.5, 60.0], [True, False, False], [False, False, False]),  # beyond both calibrations: both are known
        ([4.0, 9.0, 45.0], [True, False, False], [False, False, True]),  # fits worse, but 6 of 50 good ones are as bad
        ([4.0, 9.0, 45.0], [True, False, True], [False, False, False]),
        ([2.0, 3.9, 0.0], [True, True, False], [False, False, True]),
    ],
)
def test_which_products_are_undecided(so_far: list[float], complete: list[bool], undecided: list[bool]) -> None:
    """Thresholds 1, 2 and 10; calibration scores up to 4, 8 and 50."""
    scores = [np.linspace(0.1, 4, 20), np.linspace(0.1, 8, 20), np.arange(1, 51)]
    calibration = tuple(unmeasured(one, [], []) for one in scores)
    bank = bank_from(
        [normal_of(scattered(np.random.default_rng(0), {n: np.zeros(s) for n, s in SPEC.outputs.items()}, 5))] * 3
    )
    judge = Judge.of(replace(bank, calibration=calibration), 0.1, {f"product {c}": t for c, t in enumerate((1, 2, 10))})
    found = judge.undecided((0, 1, 2), np.array(so_far, np.float32), np.array(complete))
    assert found.tolist() == undecided
