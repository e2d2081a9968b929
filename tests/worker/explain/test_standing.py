from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from quarterturn.worker.explain.standing import standing_of, turning_of
from quarterturn.worker.inspection.judge import Judgement
from quarterturn.worker.messages.events import ResultData

scores = st.lists(st.floats(0, 5, width=32), min_size=1, max_size=60)
score = st.floats(2**-10, 100, width=32)


def judged(value: float, alert: str | None) -> Judgement:
    return Judgement(cast("Any", alert), "ring", "ring", value, 1.0, 0.5, ())


@given(scores, score, st.floats(2**-10, 4))
def test_a_score_stands_among_the_others_as_a_count_says(good: list[float], value: float, threshold: float) -> None:
    found = standing_of(np.array(good, np.float32), value, threshold)
    above = sum(one >= value for one in good)
    assert (found.pictures, found.above) == (len(good), above)
    assert found.p_value == pytest.approx((above + 1) / (len(good) + 1))
    assert found.highest == pytest.approx(max(good))
    assert found.median == pytest.approx(np.median(good), abs=1e-6)
    assert sum(found.counts) == len(good)
    assert len(found.edges) == len(found.counts) + 1
    assert found.edges[0] <= min(good) <= max(good) <= found.edges[-1]
    assert found.edges[0] <= threshold <= found.edges[-1]


@given(scores, score, st.booleans())
def test_the_threshold_that_turns_a_verdict(good: list[float], value: float, passed: bool) -> None:
    """It lies on the other side of the score, near it; its overkill is Clopper and Pearson's."""
    turning = turning_of(np.array(good, np.float32), judged(value, None if passed else "defect"), ())
    assert turning is not None
    assert turning.passes is not passed
    assert (value > turning.threshold) is passed
    assert turning.threshold == pytest.approx(value, rel=2e-3)
    assert float(f"{turning.threshold:.4g}") == turning.threshold
    above, n = sum(one > turning.threshold for one in good), len(good)
    assert turning.overkill == pytest.approx((above + 1) / (n + 1))
    oracle = stats.binomtest(above, n, alternative="less").proportion_ci(0.95, method="exact")
    assert turning.bound == pytest.approx(oracle.high, abs=1e-9)
    assert turning.past is None


def test_a_score_of_nothing_is_rejected_by_no_threshold() -> None:
    assert turning_of(np.ones(9, np.float32), judged(0.0, None), ()) is None


@given(st.lists(st.tuples(st.sampled_from([None, "defect", "unusable_picture"]), st.floats(0, 4)), min_size=1))
def test_what_would_have_become_of_recorded_frames(recorded: list[tuple[str | None, float]]) -> None:
    data = [
        cast("ResultData", SimpleNamespace(alert=alert, score=value, creation_time=f"{n:03}"))
        for n, (alert, value) in enumerate(recorded)
    ]
    turning = turning_of(np.ones(9, np.float32), judged(2.0, "defect"), data)
    assert turning is not None
    past = turning.past
    assert past is not None
    then = sum(alert == "unusable_picture" or value > turning.threshold for alert, value in recorded)
    assert (past.frames, past.then) == (len(recorded), then)
    assert past.alerts == sum(alert is not None for alert, _ in recorded)
    assert past.unusable == sum(alert == "unusable_picture" for alert, _ in recorded)
    assert (past.oldest, past.newest) == ("000", f"{len(recorded) - 1:03}")
