"""Places that are compared with a few members: what hangs on a distance is as if all had been compared with all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quarterturn.worker.inspection.search
from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.detectors import Coreset, closeness, distances
from quarterturn.worker.contract.framing import WHOLE, Layout
from quarterturn.worker.inspection.scoring import over_places
from quarterturn.worker.inspection.search import places
from tests.worker.inspection.embeddings import BOXED, TILED, Doubles

VIEWS, DIMENSIONS = 2, 3
NEAREST, OUTPUT = "nearest.deep", "places.deep"


def coreset_of(members: Array) -> Coreset:
    return Coreset(members, np.full((*members.shape[:2], 4), -1))


def scene(rng: np.random.Generator, members: int, tiles: int, grid: int) -> tuple[Coreset, Array]:
    """Members that lie around the middle and far out, and places of which most are near the middle."""
    spread = rng.choice([0.1, 1, 10], size=(VIEWS, members, 1))
    coreset = coreset_of(np.asarray(spread * rng.normal(size=(VIEWS, members, DIMENSIONS)), np.float32))
    away = rng.choice([0.1, 0.1, 1, 30], size=(tiles, 1, grid**2, 1))
    return coreset, np.asarray(away * rng.normal(size=(tiles, VIEWS, grid**2, DIMENSIONS)), np.float32)


def by_hand(samples: Array, coreset: Coreset) -> Doubles:
    """(N, P): over the views the harmonic mean of the distances to the nearest of all members."""
    found = np.empty((len(samples), samples.shape[2]))
    for n, p in np.ndindex(found.shape):
        nearest = [min(math.dist(samples[n, v, p], one) for one in coreset.members[v]) for v in range(VIEWS)]
        found[n, p] = VIEWS / sum(1 / one for one in nearest)
    return found


def searched(samples: Array, coreset: Coreset, layouts: Sequence[Layout], worst: float, median: float) -> Array:
    return places(NEAREST, {OUTPUT: samples}, {NEAREST: coreset}, layouts, worst=worst, median=median)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 15, 16, 17, 60]),
    st.sampled_from([1, 4, 8]),
    st.sampled_from([0.01, 0.02, 0.1, 0.5, 1]),
    st.sampled_from([0, 0.2, 1, 5, 1e9]),
)
def test_what_counts_is_exact_and_the_rest_bounded(
    seed: int, members: int, grid: int, worst: float, median: float
) -> None:
    coreset, samples = scene(np.random.default_rng(seed), members, 3, grid)
    found, exact = searched(samples, coreset, [WHOLE] * 3, worst, median), by_hand(samples, coreset)
    assert (found.shape, found.dtype) == ((3, grid**2), np.float32)
    assert (found >= exact * (1 - 1e-3) - 1e-4).all()
    np.testing.assert_allclose(found[found > median], exact[found > median], rtol=1e-3, atol=1e-4)
    count = max(1, round(worst * grid**2))
    for one, true in zip(found, exact, strict=True):
        worst_ones = sorted(true.tolist())[-count:]
        assert over_places(one[np.newaxis], worst) == pytest.approx(math.fsum(worst_ones) / count, rel=1e-3, abs=1e-4)
        least = worst_ones[0]
        np.testing.assert_allclose(one[one > least * 1.001], true[one > least * 1.001], rtol=1e-3, atol=1e-4)


def test_frames_of_several_tiles_are_exact_and_change_nothing_for_others() -> None:
    """Which place of such a frame counts is known only when its tiles are put together."""
    coreset, samples = scene(np.random.default_rng(1), 60, 6, 4)
    layouts = [WHOLE, TILED, BOXED, WHOLE]
    found, exact = searched(samples, coreset, layouts, 0.02, 1e9), by_hand(samples, coreset)
    np.testing.assert_allclose(found[1:5], exact[1:5], rtol=1e-3)
    assert (found[[0, 5]] > exact[[0, 5]] * 1.01).any()  # those are bounded
    for n in (0, 5):
        np.testing.assert_array_equal(searched(samples[n : n + 1], coreset, [WHOLE], 0.02, 1e9)[0], found[n])


def test_another_order_of_the_members_changes_no_score() -> None:
    coreset, samples = scene(np.random.default_rng(2), 100, 4, 8)
    turned = coreset_of(np.ascontiguousarray(coreset.members[:, ::-1]))
    one, other = (over_places(searched(samples, c, [WHOLE] * 4, 0.02, 1e9)[:, None], 0.02) for c in (coreset, turned))
    np.testing.assert_allclose(one, other, rtol=1e-4)


def test_good_places_are_compared_with_few_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a place in sixteen is odd, and all others lie nearest to the first members."""
    compared = 0

    def note(samples: Array, lifted: Array) -> Array:
        nonlocal compared
        compared += samples[..., 0].size * lifted.shape[1]
        return closeness(samples, lifted)

    monkeypatch.setattr(quarterturn.worker.inspection.search, "closeness", note)
    rng = np.random.default_rng(3)
    members = rng.normal(size=(VIEWS, 320, DIMENSIONS)).astype(np.float32)
    members[:, 20:] += 50
    samples = rng.normal(size=(5, VIEWS, 256, DIMENSIONS)).astype(np.float32)
    samples[:, :, ::16] += 20
    found = searched(samples, coreset_of(members), [WHOLE] * 5, 0.02, 1e9)
    everything = VIEWS * 320 * found.size
    assert everything / 16 < compared < everything / 4
    np.testing.assert_allclose(found, by_hand(samples, coreset_of(members)), rtol=1e-3)


def test_a_detector_without_members_is_asked_as_it_is() -> None:
    logits = np.random.default_rng(4).normal(size=(3, VIEWS, 16)).astype(np.float32)
    found = places("learned", {"logits": logits}, {}, [WHOLE] * 3, worst=0.02, median=1e9)
    harmonic = VIEWS / (1 / distances("learned", {"logits": logits}, {}).astype(np.float64)).sum(axis=1)
    np.testing.assert_allclose(found, harmonic, rtol=1e-5)
