from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterturn.worker.contract.calibration import pictures_needed
from quarterturn.worker.contract.pictures import hold_out, split_held_out
from quarterturn.worker.contract.supply import calibrating, to_add, to_add_to_a_bank

overkills = st.sampled_from([0.5, 0.1, 0.06, 0.05, 0.02, 0.01])
shares = st.sampled_from([0.05, 0.2, 0.35, 0.5, 0.9])


def pictures(count: int) -> list[Path]:
    return [Path(f"pictures/{number:04}.png") for number in range(count)]


def calibration_pictures(count: int, holdout: float | None) -> int:
    """How many training and fitting would really leave."""
    if count < 2:
        return 0
    held_out = pictures(count) if holdout is None else hold_out(pictures(count), holdout)[1]
    return len(split_held_out(held_out)[1])


@given(st.integers(0, 400), st.none() | shares, overkills)
def test_as_many_as_named_suffice_and_one_fewer_does_not(there: int, holdout: float | None, overkill: float) -> None:
    more = to_add(pictures(there), holdout, overkill)
    assert calibration_pictures(there + more, holdout) >= pictures_needed(overkill)
    assert more == 0 or calibration_pictures(there + more - 1, holdout) < pictures_needed(overkill)


@given(st.integers(2, 400), shares, overkills)
def test_of_a_bank_only_its_scores_are_known(there: int, holdout: float, overkill: float) -> None:
    more = to_add_to_a_bank(calibration_pictures(there, holdout), holdout, overkill)
    exact = to_add(pictures(there), holdout, overkill)
    assert exact <= more <= exact + 2 / holdout + 2  # the next picture that is held out need not calibrate


@pytest.mark.parametrize(("holdout", "expected"), [(0.35, 372), (0.5, 261), (None, 131)])
def test_the_numbers_that_the_docs_name(holdout: float | None, expected: int) -> None:
    assert to_add([], holdout, 0.01) == expected
    assert calibrating(pictures(expected), holdout) == 99
