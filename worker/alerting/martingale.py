"""A test martingale on ranks: a gambler who bets that a number has begun to drift, and gets rich only if it has.

While a picture's number and those before it could have come in any order, its rank among them is uniform on (0, 1]
whatever came before (Vovk, Gammerman and Shafer 2005, theorem 8.2). A bet is a function of the rank whose mean is 1, so
the gambler's money stays the same on average, and the chance that it ever reaches 1/α is at most α (Ville 1939).

Bets only fall with the rank, so a rank that is too large never makes the gambler richer: where ranks are rounded up,
the promise holds all the same, and no ties need to be broken at random.

The gambler does not know when a drift begins, and who bets from the start is ruined by then. So of the first money the
share R(t) = 1 / (1 + ln(1 + t)) is still in hand after t pictures, and R(t - 1) - R(t) joins the bets before picture t:
a mixture of all beginnings.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from statistics import NormalDist

_STEPS = 256  # of equal ranks to a bet
_SHIFTS = (0.5, 1.0)  # spreads: each bet wins most if the numbers are shifted by so many; docs/decisions/0040
_MOST = 3.0  # what a bet pays at most, so that a few odd pictures are no drift


def _bet(shift: float) -> tuple[float, ...]:
    """The likelihood ratio of a normal number that is shifted by so many spreads, by its rank; none above `_MOST`."""
    normal = NormalDist()
    pays = [math.exp(-shift * normal.inv_cdf((n + 0.5) / _STEPS)) for n in range(_STEPS)]
    scale = 1.0
    for _ in range(100):  # until the mean is 1 though what is above is cut off
        scale *= _STEPS / sum(min(scale * one, _MOST) for one in pays)
    cut = [min(scale * one, _MOST) for one in pays]
    return tuple(one * _STEPS / sum(cut) for one in cut)


BETS = tuple(_bet(shift) for shift in _SHIFTS)
"""What each pays by the step of the rank, falling, with a mean of 1."""


def in_hand(pictures: int) -> float:
    """The share of the first money that has not joined the bets after so many pictures."""
    return 1 / (1 + math.log1p(pictures))


def play(stakes: array[float], series: int, joins: float, rank: float | None) -> None:
    """Change the stakes of one series of bets by a picture of this rank, `joins` having been added to each of them.

    `stakes` holds those of all series, one behind the other. Without a rank nothing is won or lost.
    """
    step = None if rank is None else math.ceil(rank * _STEPS) - 1
    for n, bet in enumerate(BETS, series * len(BETS)):
        stakes[n] = (stakes[n] + joins) * (1.0 if step is None else bet[step])


def evidence(stakes: Sequence[float], kept: float) -> float:
    """log₁₀ of all that the gambler has: what is in hand, and the stakes, among which he divides the rest evenly."""
    return math.log10(kept + sum(stakes) / len(stakes))
