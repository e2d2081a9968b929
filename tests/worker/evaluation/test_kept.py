from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from quarterturn.worker.contract.calibration import Promise
from quarterturn.worker.evaluation.figures import Inspected
from quarterturn.worker.evaluation.kept import kept
from quarterturn.worker.evaluation.result import Evaluation
from quarterturn.worker.evaluation.summary import sentences, to_json


def evaluation(rejected: dict[str, int], good: int = 120, promised: tuple[str, ...] = ("ring",)) -> Evaluation:
    """`rejected` of `good` good parts of each product, and one bad part each, which is rejected."""
    inspected = [
        Inspected(Path(f"{number}.png"), product, defect, score, 1.0, "defect" if score > 1 else None, product)
        for product, count in rejected.items()
        for number, (defect, score) in enumerate(
            [*[("good", 2.0)] * count, *[("good", 0.5)] * (good - count), ("dent", 2.0)]
        )
    ]
    promises = {product: Promise.of(120, 0.02) for product in promised}
    return Evaluation("e", "t", "b", 0.02, promises, inspected, [], None)


@pytest.mark.parametrize("rejected", [0, 3, 6, 7, 30])
def test_measured_and_promised_overkill(rejected: int) -> None:
    """The largest count within chance, as scipy says it of 120 parts and the second largest of 120 scores."""
    most = int(stats.betabinom(120, 2, 119).ppf(0.95))
    found = evaluation({"ring": rejected})
    (one,) = kept(found)
    assert (one.rejected, one.good, one.most, one.within_chance) == (rejected, 120, most, rejected <= most)
    told = f"ring: {rejected} of 120 good parts were rejected; with a promise of 2% on average, "
    (sentence,) = [sentence for sentence in sentences(found) if sentence.startswith(told)]
    if rejected <= most:
        assert sentence == f"{told}up to {most} are within chance"
    else:
        assert sentence.startswith(f"{told}no more than {most} are within chance: these pictures do not look like")
    assert to_json(found)["kept"][0]["within_chance"] == (rejected <= most)


def test_several_products_share_the_chance_of_a_false_alarm() -> None:
    found = kept(evaluation({"ring": 1, "bracket": 2}, promised=("bracket", "ring", "washer")))
    assert [(one.product, one.rejected) for one in found] == [("bracket", 2), ("ring", 1)]  # no washer was inspected
    assert {one.most for one in found} == {int(stats.betabinom(120, 2, 119).ppf(0.975))}


def test_a_fixed_threshold_promises_nothing() -> None:
    assert kept(evaluation({"ring": 100}, promised=())) == []
