from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.evaluation.choice import OFFERED, choices
from quarterturn.worker.evaluation.figures import Inspected
from tests.parts import unmeasured


def calibrated(bank: Bank, *counts: int) -> Bank:
    """Scores 1 to n for each product."""
    ones = (np.arange(1, count + 1, dtype=np.float32) for count in counts)
    return replace(bank, calibration=tuple(unmeasured(scores, scores, scores) for scores in ones))


def inspected(product: str, defect: str, *scores: float) -> list[Inspected]:
    return [Inspected(Path("a.png"), product, defect, score, 1.0, None, product) for score in scores]


def test_every_overkill_is_tried_on_the_same_pictures(bank: Bank) -> None:
    """Brackets have 1000 calibration scores and rings 120: thresholds are counted from the top."""
    some = [
        *inspected("bracket", "good", *range(0, 1100, 10)),
        *inspected("bracket", "dent", 995, 1005),
        *inspected("ring", "good", 10, 118.5, 125),
        *inspected("ring", "dent", 60, 117, 119.5, 130),
        *inspected("washer", "good", 1e6),  # of which the bank knows nothing
    ]
    found = {choice.asked: choice for choice in choices(calibrated(bank, 1000, 120), some, 0.03)}
    assert list(found) == sorted([*OFFERED, 0.03])
    for asked, missing in ((0.001, 999 - 120), (0.005, 199 - 120)):
        assert (found[asked].promise, found[asked].missing, found[asked].escape) == (None, missing, None)
    for asked in (0.01, 0.02, 0.03, 0.05, 0.1):
        limits = {"bracket": 1001 - int(1001 * asked), "ring": 121 - int(121 * asked)}
        good = [one.score > limits[one.product] for one in some[:-1] if one.is_good]
        bad = [one.score <= limits[one.product] for one in some if not one.is_good]
        choice = found[asked]
        assert choice.missing == 0
        assert choice.overkill == pytest.approx(np.mean(good))
        assert choice.escape == pytest.approx(np.mean(bad))
        exact = stats.binomtest(sum(bad), len(bad)).proportion_ci(method="exact")
        assert choice.escape_between == pytest.approx((exact.low, exact.high))
        assert choice.promise is not None
        assert choice.promise.pictures == 120  # what is promised of the other product is better
    assert found[0.1].overkill > found[0.01].overkill
    assert found[0.1].escape < found[0.01].escape


def test_without_good_or_bad_parts_there_is_no_figure(bank: Bank) -> None:
    (*_, last) = choices(calibrated(bank, 1000, 1000), inspected("ring", "dent", 2), 0.1)
    assert (last.overkill, last.overkill_between, last.escape) == (None, None, 1.0)


def test_what_is_in_service_is_among_them_once(bank: Bank) -> None:
    assert [choice.asked for choice in choices(calibrated(bank, 10, 10), [], 0.02)] == list(OFFERED)
