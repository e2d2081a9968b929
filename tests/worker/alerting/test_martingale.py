from __future__ import annotations

import math
from array import array
from itertools import pairwise

import numpy as np
import pytest

from quarterturn.worker.alerting.martingale import BETS, evidence, in_hand, play


def played(ranks: list[float], series: int = 1) -> float:
    """log10 of the gambler's money after these ranks, all in the first of so many series of bets."""
    stakes = array("d", [0.0] * len(BETS) * series)
    for n, rank in enumerate(ranks):
        joins = in_hand(n) - in_hand(n + 1)
        play(stakes, 0, joins, rank)
        for other in range(1, series):
            play(stakes, other, joins, None)
    return evidence(stakes, in_hand(len(ranks)))


@pytest.mark.parametrize("bet", BETS, ids=len)
def test_a_bet_is_fair_falls_with_the_rank_and_never_pays_much(bet: tuple[float, ...]) -> None:
    assert np.mean(bet) == pytest.approx(1, abs=1e-12)
    assert all(one >= other > 0 for one, other in pairwise(bet))
    assert 1 < bet[0] <= 3 + 1e-9


def test_money_is_the_mixture_over_all_beginnings() -> None:
    """By an oracle that bets on each beginning by itself, from the density of a shifted normal number."""
    rng, count = np.random.default_rng(0), 40
    ranks = rng.uniform(0, 1, count) ** 2
    money = 1 / (1 + math.log(1 + count))  # still in hand
    for bet in BETS:
        for begin in range(count):
            share = 1 / (1 + math.log(1 + begin)) - 1 / (1 + math.log(2 + begin))
            pays = [bet[math.ceil(rank * len(bet)) - 1] for rank in ranks[begin:]]
            money += share * math.prod(pays) / len(BETS)
    assert 10 ** played(ranks.tolist()) == pytest.approx(money)


def test_series_share_the_money() -> None:
    ranks = [0.01] * 30
    assert 10 ** played(ranks, series=2) == pytest.approx((10 ** played(ranks) + 1) / 2, rel=1e-6)


def test_money_stays_the_same_on_average() -> None:
    rng = np.random.default_rng(1)
    money = [10 ** played(rng.uniform(0, 1, 30).tolist()) for _ in range(4000)]
    assert np.mean(money) == pytest.approx(1, abs=4 * np.std(money) / math.sqrt(len(money)))


@pytest.mark.parametrize(("rank", "step"), [(1.0, -1), (1 / 256, 0), (1e-9, 0), (0.5, 127), (0.5 + 1e-9, 128)])
def test_a_rank_on_an_edge_is_of_the_step_below_it(rank: float, step: int) -> None:
    stakes = array("d", [1.0] * len(BETS))
    play(stakes, 0, 0.0, rank)
    assert stakes.tolist() == [bet[step] for bet in BETS]
