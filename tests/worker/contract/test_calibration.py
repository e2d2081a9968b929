from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from quarterturn.worker.contract.calibration import (
    Promise,
    conformal_p_value,
    conformal_threshold,
    pictures_needed,
    too_few,
)

RATES = [0.5, 0.25, 0.1, 0.05, 0.01, 0.005, 0.003, 0.001, 0.07, 1e-4]
rates = st.sampled_from(RATES)
many = st.lists(st.integers(0, 30), min_size=1, max_size=60)


@given(many, rates)
def test_the_threshold_is_the_smallest_score_that_keeps_the_promise(scores: list[int], overkill: float) -> None:
    """Tried one by one: with a new score among n + 1, at least (n + 1)(1 − α) must not exceed the threshold."""
    wanted = (len(scores) + 1) * (1 - Fraction(str(overkill)))
    enough = [score for score in sorted(scores) if sum(other <= score for other in scores) >= wanted]
    if enough:
        assert conformal_threshold(scores, overkill) == enough[0]
    else:
        with pytest.raises(ValueError, match="calibration pictures promise no overkill"):
            conformal_threshold(scores, overkill)


@given(st.lists(st.floats(0, 1e6), min_size=5, max_size=40, unique=True), st.sampled_from([0.5, 0.3, 0.25]))
def test_the_promise_holds_exactly_for_exchangeable_scores(scores: list[float], overkill: float) -> None:
    """Each score in turn is the new part, the others calibrate: at most the share α exceeds its threshold."""
    exceeding = sum(
        score > conformal_threshold(scores[:index] + scores[index + 1 :], overkill)
        for index, score in enumerate(scores)
    )
    assert exceeding <= overkill * len(scores)


def test_coverage_in_a_simulated_plant() -> None:
    rng = np.random.default_rng(0)
    plants, count, overkill = 4000, 199, 0.02
    thresholds = [conformal_threshold(scores, overkill) for scores in rng.gamma(4.0, size=(plants, count))]
    rejected = rng.gamma(4.0, size=(plants, 50)) > np.array(thresholds)[:, None]
    error = 3 * math.sqrt(overkill / plants)  # parts of one plant share a threshold
    assert overkill - 1 / (count + 1) - error < rejected.mean() < overkill + error


@pytest.mark.parametrize("overkill", RATES)
def test_the_fewest_pictures_that_suffice(overkill: float) -> None:
    needed = pictures_needed(overkill)
    assert conformal_threshold(np.arange(needed), overkill) == needed - 1
    if needed > 1:
        with pytest.raises(ValueError, match=rf"{needed - 1} calibration pictures promise no overkill of {overkill}"):
            conformal_threshold(np.arange(needed - 1), overkill)


def test_well_known_numbers() -> None:
    assert [pictures_needed(overkill) for overkill in (0.01, 0.005, 0.001)] == [99, 199, 999]
    assert conformal_threshold(range(1, 200), 0.01) == 198
    assert conformal_threshold([[3.0], [1.0], [2.0]], 0.25) == 3.0


@pytest.mark.parametrize("count", [1, 2, 3, 7, 41, 64, 66, 90, 130, 333])
def test_the_rate_that_the_error_names_does_suffice(count: int) -> None:
    text = str(too_few("product 'ring'", count, 1e-5, "add 7", "worker.yaml"))
    named = re.fullmatch(
        rf"product 'ring': an overkill of 0\.001% needs 99999 calibration pictures, but there are {count}; add 7, "
        r"or set overkill: ([\d.]+) in worker\.yaml",
        text,
    )
    assert named
    conformal_threshold(np.zeros(count), float(named[1]))


def test_without_any_picture_no_rate_suffices() -> None:
    assert str(too_few("product 'ring'", 0, 0.5, "add 7", "worker.yaml")).endswith("but there are 0; add 7")


@given(many, st.integers(-1, 31))
def test_the_p_value_is_the_share_of_good_parts_at_least_as_high(scores: list[int], score: int) -> None:
    """The part itself counted among them."""
    among = [*scores, score]
    expected = Fraction(sum(one >= score for one in among), len(among))
    assert conformal_p_value(scores, score) == pytest.approx(float(expected), rel=1e-12)
    assert 0 < conformal_p_value(np.array(scores, np.float32), float(score)) <= 1


@given(many, rates)
def test_a_part_beyond_the_threshold_is_one_whose_p_value_is_too_small(scores: list[int], overkill: float) -> None:
    """Threshold and p-value say the same of every score there can be."""
    try:
        threshold = conformal_threshold(scores, overkill)
    except ValueError:
        assert all(conformal_p_value(scores, score) > overkill for score in range(-1, 32))
        return
    for score in range(-1, 32):
        rank = sum(one >= score for one in scores) + 1
        assert conformal_p_value(scores, score) == pytest.approx(rank / (len(scores) + 1))
        assert (score > threshold) == (Fraction(rank, len(scores) + 1) <= Fraction(str(overkill)))


def test_p_values_of_good_parts_are_rarely_small() -> None:
    """A p-value of at most α comes with probability of at most α: in a simulated plant, with ties."""
    rng = np.random.default_rng(1)
    drawn = np.round(rng.gamma(4.0, size=(4000, 60)), 1)
    found = np.array([conformal_p_value(one[1:], one[0]) for one in drawn])
    for overkill in (0.02, 0.05, 0.1, 0.5):
        assert (found <= overkill).mean() <= overkill + 3 * math.sqrt(overkill * (1 - overkill) / len(found))
    assert (found <= 0.1).mean() > 0.07


@pytest.mark.parametrize(("count", "overkill", "rank"), [(99, 0.01, 1), (120, 0.02, 2), (299, 0.01, 3), (19, 0.5, 10)])
def test_the_promise_of_one_calibration(count: int, overkill: float, rank: int) -> None:
    """The threshold is the `rank`-th largest score; the share of uniform scores beyond it is a Beta variable."""
    found = Promise.of(count, overkill)
    assert found.rank == rank
    assert conformal_threshold(np.arange(count), overkill) == count - rank
    assert found.average == rank / (count + 1) <= overkill
    assert found.bound == pytest.approx(stats.beta(rank, count + 1 - rank).ppf(0.95))


@pytest.mark.parametrize(("needed", "overkill"), [(59, 0.05), (299, 0.01), (2995, 0.001)])
def test_how_many_pictures_make_sure_of_it(needed: int, overkill: float) -> None:
    """The widely printed numbers: with 95% confidence, the largest of so many scores keeps that overkill."""
    largest = [Promise.of(count, 1.5 / (count + 1)) for count in (needed, needed - 1)]
    assert [one.rank for one in largest] == [1, 1]
    assert largest[0].bound <= overkill < largest[1].bound


@pytest.mark.parametrize("decimals", [8, 0])
def test_both_halves_of_the_promise_hold_in_simulated_plants(decimals: int) -> None:
    """Also where many scores are alike: then fewer are rejected, never more."""
    rng, plants = np.random.default_rng(2), 4000
    found = Promise.of(120, 0.02)
    drawn = np.round(rng.gamma(4.0, size=(plants, 120)), decimals)
    thresholds = np.array([conformal_threshold(scores, 0.02) for scores in drawn])
    unrounded = thresholds if decimals else thresholds + 0.5
    overkill = stats.gamma(4.0).sf(unrounded)
    assert overkill.mean() <= found.average + 3 * overkill.std() / math.sqrt(plants)
    assert (overkill > found.bound).mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / plants)
    if decimals:
        assert (overkill > found.bound).mean() > 0.03


def test_equal_scores_reject_nobody_who_scores_like_them() -> None:
    threshold = conformal_threshold(np.full(120, 0.7), 0.02)
    assert not threshold < 0.7
    assert conformal_p_value(np.full(120, 0.7), 0.7) == 1


def test_too_few_pictures_promise_nothing() -> None:
    with pytest.raises(ValueError, match=r"98 calibration pictures promise no overkill of 0\.01"):
        Promise.of(98, 0.01)


def test_the_promise_in_words() -> None:
    assert Promise.of(199, 0.005).sentence == (
        "at most 0.50% of good parts are rejected on average (asked for: 0.5%), and with 95% confidence at most 1.50% "
        "by this calibration, guaranteed from 199 held-out good pictures as long as new good parts look like those"
    )
