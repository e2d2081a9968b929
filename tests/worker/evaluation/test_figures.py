from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from quarterturn.worker.evaluation.figures import Figures, Inspected, auroc, average_precision, recall_at, roc
from quarterturn.worker.evaluation.result import Evaluation

few_values = st.lists(st.integers(0, 12), min_size=1, max_size=40)  # few different ones, so that there are ties


def arrays(good: list[int], bad: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    labels = np.r_[np.zeros(len(good)), np.ones(len(bad))]
    return np.array(good, float), np.array(bad, float), labels, np.r_[good, bad].astype(float)


@given(few_values, few_values)
def test_figures_agree_with_scikit_learn(good: list[int], bad: list[int]) -> None:
    good_scores, bad_scores, labels, scores = arrays(good, bad)
    assert auroc(good_scores, bad_scores) == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert average_precision(good_scores, bad_scores) == pytest.approx(metrics.average_precision_score(labels, scores))
    overkill, recall, thresholds = metrics.roc_curve(labels, scores, drop_intermediate=False)
    curve = roc(good_scores, bad_scores)
    np.testing.assert_allclose(curve.overkill, overkill)
    np.testing.assert_allclose(curve.recall, recall)
    np.testing.assert_allclose(curve.thresholds, thresholds)


@given(few_values, few_values, st.sampled_from([0.0, 0.01, 0.05, 0.5]))
def test_recall_at_fixed_overkill_by_trying_every_threshold(good: list[int], bad: list[int], overkill: float) -> None:
    tried = [
        sum(score >= threshold for score in bad) / len(bad)
        for threshold in [*good, *bad, 100]
        if sum(score >= threshold for score in good) / len(good) <= overkill
    ]
    good_scores, bad_scores, _, _ = arrays(good, bad)
    assert recall_at(good_scores, bad_scores, overkill) == pytest.approx(max(tried))


def test_a_hundredth_of_a_hundred_is_one_part() -> None:
    good = np.arange(100.0)
    assert recall_at(good, np.array([98.5, 97.5]), 0.01) == 0.5


def inspected(product: str, defect: str, score: float, threshold: float = 1.0, nearest: str = "") -> Inspected:
    alert = "defect" if score > threshold else None
    return Inspected(Path(f"{defect}.png"), product, defect, score, threshold, alert, nearest or product)


def test_overkill_and_escape_count_alerts() -> None:
    figures = Figures.of(
        [inspected("a", "good", score) for score in (0.2, 0.9, 1.0, 1.1)] + [inspected("a", "dent", 0.5)]
    )
    assert (figures.good, figures.bad, figures.overkill, figures.escape) == (4, 1, 0.25, 1.0)


def test_products_are_compared_in_thresholds() -> None:
    """Product b's scores are ten times those of a; as ratios, every bad part is above every good one."""
    verdicts = [
        inspected("a", "good", 0.5, 1),
        inspected("a", "dent", 1.5, 1),
        inspected("b", "good", 5, 10),
        inspected("b", "dent", 15, 10),
    ]
    assert Figures.of(verdicts).auroc == 1.0


@pytest.mark.parametrize("defect", ["good", "dent"])
def test_a_figure_that_needs_the_other_kind_of_part_is_none(defect: str) -> None:
    figures = Figures.of([inspected("a", defect, 2.0)])
    assert (figures.auroc, figures.average_precision, *figures.recall_at.values()) == (None, None, None, None)
    assert (figures.overkill, figures.escape) == ((1.0, None) if defect == "good" else (None, 0.0))
    assert Figures.of([]).overkill is None


def test_a_threshold_of_zero_is_no_division_by_zero() -> None:
    assert inspected("a", "good", 0.0, 0.0).ratio == 0
    assert inspected("a", "good", 0.1, 0.0).ratio > 1


def test_groups() -> None:
    verdicts = [
        inspected("a", "good", 0.5),
        inspected("b", "good", 2.0),
        inspected("a", "dent", 1.0),
        inspected("b", "dent", 3.0),
        inspected("plant", "alien", 1.0),
    ]
    evaluation = Evaluation("e", "t", "b", 0.01, {}, verdicts, [], None)
    assert list(evaluation.by_product) == ["a", "b", "plant"]
    assert evaluation.by_product["b"].overkill == 1.0
    assert list(evaluation.by_defect) == [("a", "dent"), ("b", "dent"), ("plant", "alien")]
    assert evaluation.by_defect["a", "dent"].auroc == 1.0  # against the good parts of a alone
    assert evaluation.by_defect["plant", "alien"].auroc == 0.5  # of an unknown product: against all good parts
    assert evaluation.total.bad == 3
