"""The share of a new kind, and the promise of a calibration that is made of both kinds, simulated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterturn.worker.contract.calibration import Promise, conformal_threshold
from quarterturn.worker.learning.composition import Mixture, Stream, mixture, new_needed, new_share

PROMISE = Promise.of(99, 0.05)


@pytest.mark.parametrize(
    ("stream", "rejected"),
    [
        (Stream(), 0.0),
        (Stream(100, 30, 20, 0), 0.30),
        (Stream(100, 30), 0.30),  # nobody judged any: all may be good
        (Stream(100, 30, 10, 10), 15 / 85),  # half of them are bad
        (Stream(100, 30, 0, 5), 0.0),
    ],
)
def test_the_share_of_good_parts_that_was_rejected(stream: Stream, rejected: float) -> None:
    assert stream.rejected == pytest.approx(rejected)


@pytest.mark.parametrize("beyond", range(8))
def test_a_line_that_keeps_its_promise_has_no_new_kind(beyond: int) -> None:
    assert new_share(Stream(100, beyond, beyond, 0), PROMISE) == 0


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 1.0])
def test_the_share_is_found_again(share: float) -> None:
    rejected = round(1000 * (share + (1 - share) * PROMISE.average))
    assert new_share(Stream(1000, rejected, 20, 0), PROMISE) == pytest.approx(share, abs=0.002)


@given(st.integers(0, 300), st.integers(0, 60), st.floats(0, 1), st.integers(1, 99))
def test_a_mixture_is_large_enough_and_has_its_share(before: int, new: int, share: float, needed: int) -> None:
    mixed = mixture(before, new, share, needed)
    if mixed is None:
        assert share > 0
        assert new < needed
        assert new_needed(before, share, needed) > new
        return
    assert 0 <= mixed.before <= before
    assert 0 <= mixed.new <= new
    if share > 0:
        assert mixed.before + mixed.new >= needed
        assert mixed.new >= share * (mixed.before + mixed.new) - 1e-6
        # one more of those before would leave the new ones too small a share
        assert mixed.before in {before, 0} or (mixed.before + 1) * share > new * (1 - share) - 1e-6


@pytest.mark.parametrize(
    ("before", "new", "share", "needed", "expected"),
    [
        (60, 10, 0.0, 19, Mixture(60, 0)),
        (60, 10, 0.25, 19, Mixture(30, 10)),
        (15, 10, 0.25, 19, Mixture(15, 5)),
        (60, 10, 0.25, 99, None),
        (60, 25, 1.0, 19, Mixture(0, 25)),
    ],
)
def test_mixtures(before: int, new: int, share: float, needed: int, expected: Mixture | None) -> None:
    assert mixture(before, new, share, needed) == expected


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_the_promise_holds_for_the_mixture_and_not_without_it(share: float) -> None:
    """Scores of the kind before are exponential, those of the new kind lie higher; only rejected ones are confirmed."""
    rng, asked, rejected, naive, ours = np.random.default_rng(0), 0.05, [], [], []
    for _ in range(400):
        old = rng.exponential(size=99)
        threshold = conformal_threshold(old, asked)

        def parts(count: int, rng: np.random.Generator = rng) -> np.ndarray:
            return np.where(rng.random(count) < share, 4 + rng.exponential(size=count), rng.exponential(size=count))

        seen = parts(600)
        beyond = seen[seen > threshold]
        rejected.append(len(beyond) / len(seen))
        e = new_share(Stream(len(seen), len(beyond), 20, 0), Promise.of(99, asked))
        mixed = mixture(99, 40, e, 19)
        assert mixed is not None
        confirmed = rng.choice(beyond, mixed.new, replace=False)
        calibration = np.concatenate([rng.choice(old, mixed.before, replace=False), confirmed])
        future = parts(4000)
        naive.append(np.mean(future > threshold))
        ours.append(np.mean(future > conformal_threshold(calibration, asked)))
    assert np.mean(naive) > share
    assert np.mean(ours) <= asked + 0.005
    assert np.mean(ours) > asked / 3  # and it does not buy that by letting everything pass
