from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.spoilt import SPOILT, Picture, cell, cells, good_test_pictures, table
from quarterturn.worker.messages.events import ResultData
from tests import examples
from tests.worker.dataset import write_product


def textured(height: int = 96, width: int = 128) -> Picture:
    return np.random.default_rng(3).integers(40, 160, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", SPOILT)
def test_every_kind_spoils_a_picture_the_same_way_each_time(kind: str) -> None:
    good = textured()
    before = good.copy()
    first, again = (SPOILT[kind](np.random.default_rng(0), good) for _ in range(2))
    np.testing.assert_array_equal(good, before)
    np.testing.assert_array_equal(first, again)
    assert (first.dtype, first.ndim, first.shape[2]) == (np.uint8, 3, 3)
    assert sorted(first.shape[:2]) == [96, 128]
    if first.shape == good.shape:
        assert np.mean(np.any(first != good, axis=2)) > 0.05


def result(score: float, alert: str | None) -> ResultData:
    data = examples.verdict(examples.frame()).data
    return data.model_copy(update={"score": score, "threshold": 2.0, "alert": alert})


def test_a_cell_is_the_least_score_and_all_alerts() -> None:
    assert cell([result(9, "defect"), result(3, "defect")]) == "1.5 defect"
    mixed = [result(1, "unusable_picture"), result(1, None), result(3, "unusable_picture")]
    assert cell(mixed) == "0.5 2 unusable, 1 good"


def test_a_column_has_every_kind_and_the_table_every_column(tmp_path: Path) -> None:
    write_product(tmp_path / "ring", good=6)
    good = good_test_pictures(tmp_path / "ring", 3)
    assert [len(pictures) for pictures in good.values()] == [3]
    asked: list[int] = []

    def inspect(product: str, pictures: Sequence[Picture]) -> list[ResultData]:
        assert product == "ring"
        asked.append(len(pictures))
        return [result(1, None)] * len(pictures)

    column = cells(inspect, good, good["ring"][:2])
    assert list(column) == ["good", *SPOILT, "another object"]
    assert asked == [3] * (1 + len(SPOILT)) + [2]
    lines = table({"a": column, "b": {"good": "0.1 good"}}).splitlines()
    assert lines[:3] == ["| | a | b |", "|---|---|---|", "| good | 0.5 good | 0.1 good |"]
    assert lines[3] == "| black | 0.5 good | – |"
    assert len(lines) == 2 + len(column)
