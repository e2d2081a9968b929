"""Values in their limits: a division that orders, whatever the limit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterturn.worker.contract.limits import in_limits, times_limit

VALUES = st.floats(0, 1e6)


@given(VALUES, st.floats(1e-6, 1e6))
def test_is_the_quotient(value: float, limit: float) -> None:
    assert times_limit(value, limit) == pytest.approx(float(Fraction(value) / Fraction(limit)))


@given(VALUES, VALUES, st.just(0.0) | VALUES)
def test_orders_values_by_any_limit(one: float, other: float, limit: float) -> None:
    assert (times_limit(one, limit) > times_limit(other, limit)) <= (one > other)
    assert np.isfinite(times_limit(one, limit))


@given(st.lists(VALUES, min_size=1), st.just(0.0) | st.floats(1e-6, 1e6))
def test_arrays_are_divided_as_numbers_are_in_single_precision(values: list[float], limit: float) -> None:
    found = in_limits(np.array(values, np.float32), limit)
    assert found.dtype == np.float32
    assert found == pytest.approx([times_limit(value, limit) for value in values], rel=1e-5, abs=1e-30)


def test_whatever_is_more_than_a_limit_of_0_is_beyond_it() -> None:
    assert times_limit(0.1, 0) > 1
    assert times_limit(0, 0) == 0
    assert in_limits(np.array([0.1, 0], np.float32), np.zeros(2, np.float32)).tolist() > [1, 0]
