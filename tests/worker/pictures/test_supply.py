from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.worker.contract.splits import hold_out, split_held_out
from quarterturn.worker.pictures.supply import calibrating, to_add, to_add_to_a_bank

shares = st.sampled_from([0.05, 0.2, 0.35, 0.5, 0.9])
few = settings(max_examples=40)


def pictures(count: int, of_each: int = 1) -> list[Path]:
    return [Path(f"pictures/{number // of_each:04}_{number % of_each}.png") for number in range(count)]


def calibration_parts(count: int, holdout: float | None, of_each: int = 1) -> int:
    """How many parts training and fitting would really leave to calibrate."""
    group = r"^(\d+)_" if of_each > 1 else None
    every = pictures(count, of_each)
    held_out = every if holdout is None else hold_out(every, holdout, group)[1]
    return len({path.name[:4] for path in split_held_out(held_out, group)[1]})


@few
@given(st.integers(0, 300), st.integers(1, 120), st.none() | shares)
def test_as_many_as_named_suffice_and_one_fewer_does_not(there: int, missing: int, holdout: float | None) -> None:
    more, wanted = to_add(pictures(there), missing, holdout), calibration_parts(there, holdout) + missing
    assert calibration_parts(there + more, holdout) >= wanted
    assert calibration_parts(there + more - 1, holdout) < wanted


@pytest.mark.parametrize("of_each", [2, 5])
@pytest.mark.parametrize("holdout", [0.35, 0.5, None])
def test_pictures_of_one_part_count_once(of_each: int, holdout: float | None) -> None:
    """Of twenty parts with as many pictures each; parts are held out whole, so a part more or fewer may calibrate."""
    group, there = r"^(\d+)_", pictures(20 * of_each, of_each)
    base = calibration_parts(len(there), holdout, of_each)
    assert calibrating(there, holdout, group) == base < 20
    more = to_add(there, 30, holdout, group)
    assert abs(calibration_parts((20 + more) * of_each, holdout, of_each) - base - 30) <= 1


@few
@given(st.integers(2, 300), st.integers(1, 120), shares)
def test_of_a_bank_only_its_scores_are_known(there: int, missing: int, holdout: float) -> None:
    more = to_add_to_a_bank(calibration_parts(there, holdout), missing, holdout)
    exact = to_add(pictures(there), missing, holdout)
    assert exact <= more <= exact + 2 / holdout + 2  # the next picture that is held out need not calibrate


@pytest.mark.parametrize(("holdout", "expected"), [(0.35, 372), (0.5, 261), (None, 131)])
def test_the_numbers_that_the_docs_name(holdout: float | None, expected: int) -> None:
    assert to_add([], 99, holdout) == expected
    assert calibrating(pictures(expected), holdout) == 99


def test_nothing_calibrates_without_a_picture_to_weigh_by() -> None:
    assert [calibrating(pictures(count), None) for count in range(5)] == [0, 0, 1, 2, 3]
