"""How counts scatter by chance: what may be said of a share from the few parts that were counted."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_HALVINGS = 60  # of the interval from 0 to 1: far more exact than any share that is printed


def beta_quantile(p: float, a: int, b: int) -> float:
    """The p-quantile of the distribution Beta(a, b), for whole a, b > 0.

    Its distribution function at x is the probability of a successes or more in a + b − 1 trials with chance x
    (NIST Digital Library of Mathematical Functions, 8.17.5), which rises with x: the interval is halved.
    """
    trials = a + b - 1
    counts = np.arange(a)
    choices = _log_choices(trials, a)
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        x = (low + high) / 2
        fewer = np.exp(choices + counts * math.log(x) + (trials - counts) * math.log1p(-x)).sum()
        low, high = (x, high) if 1 - fewer < p else (low, x)
    return (low + high) / 2


def share_between(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval that holds the true share with this confidence, where `count` of `total` > 0 were counted.

    Clopper and Pearson, Biometrika 26 (1934), 404-413: never too narrow, whatever the share.
    """
    tail = (1 - confidence) / 2
    low = beta_quantile(tail, count, total - count + 1) if count else 0.0
    high = beta_quantile(1 - tail, count + 1, total - count) if count < total else 1.0
    return low, high


def most_rejected(parts: int, calibration: int, rank: int, chance: float) -> int:
    """The smallest m such that more than m of `parts` good parts are rejected with a probability of `chance` at most.

    The threshold is the `rank`-th largest of `calibration` scores of good parts. Its true overkill is distributed over
    calibrations as Beta(rank, calibration + 1 − rank), so the count of rejected parts is beta-binomial: it scatters
    more than a binomial, because the threshold scatters, too. With ties among the scores fewer are rejected.
    """
    # P(j) = C(j + rank − 1, j) · C(parts − j + calibration − rank, parts − j) / C(parts + calibration, parts)
    rejected = np.arange(parts + 1)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, parts + calibration + 1)))])

    def log_choose(n: npt.NDArray[np.int64] | int, k: npt.NDArray[np.int64] | int) -> npt.NDArray[np.float64]:
        return np.asarray(log_factorials[n] - log_factorials[k] - log_factorials[n - np.asarray(k)])

    passed = parts - rejected
    logs = log_choose(rejected + rank - 1, rejected) + log_choose(passed + calibration - rank, passed)
    at_most = np.cumsum(np.exp(logs - log_choose(parts + calibration, parts)))
    return int(np.searchsorted(at_most, 1 - chance))


def _log_choices(trials: int, count: int) -> npt.NDArray[np.float64]:
    """(count,): the logarithms of the ways to choose 0, 1, 2, … of `trials`."""
    steps = np.arange(1, count)
    return np.concatenate([[0.0], np.cumsum(np.log((trials - steps + 1) / steps))])
