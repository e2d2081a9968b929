from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from quarterturn.worker.contract.chance import beta_quantile, most_rejected, share_between

whole = st.integers(1, 400)
chances = st.sampled_from([0.001, 0.025, 0.05, 0.5, 0.95, 0.975])


@given(chances, whole, whole)
def test_quantiles_agree_with_scipy(p: float, a: int, b: int) -> None:
    assert beta_quantile(p, a, b) == pytest.approx(stats.beta.ppf(p, a, b), rel=1e-9, abs=1e-15)


@given(st.integers(0, 300), st.integers(0, 300), st.sampled_from([0.5, 0.95, 0.99]))
def test_intervals_are_those_of_clopper_and_pearson(count: int, others: int, confidence: float) -> None:
    total = max(1, count + others)
    expected = stats.binomtest(count, total).proportion_ci(confidence, method="exact")
    assert share_between(count, total, confidence) == pytest.approx((expected.low, expected.high), rel=1e-8, abs=1e-12)


@given(st.integers(1, 500), st.integers(1, 500), st.data())
def test_counts_scatter_as_a_beta_binomial(parts: int, calibration: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, calibration))
    chance = data.draw(st.sampled_from([0.5, 0.05, 0.01]))
    distribution = stats.betabinom(parts, rank, calibration + 1 - rank)
    most = most_rejected(parts, calibration, rank, chance)
    assert distribution.sf(most) <= chance + 1e-9
    assert most == 0 or distribution.sf(most - 1) > chance - 1e-9


def test_large_counts_are_no_trouble() -> None:
    assert share_between(0, 100_000)[1] == pytest.approx(1 - 0.025 ** (1 / 100_000), rel=1e-9)
    assert most_rejected(100_000, 20_000, 10_000, 0.05) == pytest.approx(50_000, rel=0.02)


@pytest.mark.parametrize(("calibration", "rank"), [(99, 1), (150, 3)])
@pytest.mark.parametrize("decimals", [8, 1])  # with ties, too
def test_a_promise_that_holds_is_rarely_called_broken(calibration: int, rank: int, decimals: int) -> None:
    """In simulated plants, each with a calibration of its own; by a plain binomial it would be twice as often."""
    rng, plants, parts = np.random.default_rng(0), 20_000, 200
    scores = np.round(rng.gamma(4.0, size=(plants, calibration)), decimals)
    thresholds = np.sort(scores)[:, -rank]
    most = most_rejected(parts, calibration, rank, 0.05)
    beyond = stats.gamma(4.0).sf(thresholds) if decimals == 8 else stats.gamma(4.0).sf(thresholds + 0.05)
    rejected = rng.binomial(parts, beyond)
    broken = (rejected > most).mean()
    assert broken <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / plants)
    if decimals == 8:
        plain = stats.binom(parts, rank / (calibration + 1)).ppf(0.95)
        assert (rejected > plain).mean() > 1.5 * broken
