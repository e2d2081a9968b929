"""Values in their limits: a division that orders, whatever the limit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterturn.worker.contract.limits import in_limits

VALUES = st.floats(0, 1e6)


@given(VALUES, st.floats(1e-6, 1e6))
def test_is_the_quotient(value: float, limit: float) -> None:
    assert float(in_limits(value, limit)) == pytest.approx(float(Fraction(value) / Fraction(limit)))


@given(VALUES, VALUES, st.just(0.0) | VALUES)
def test_orders_values_by_any_limit(one: float, other: float, limit: float) -> None:
    assert (in_limits(one, limit) > in_limits(other, limit)) <= (one > other)
    assert np.isfinite(in_limits(one, limit))


def test_whatever_is_more_than_a_limit_of_0_is_beyond_it() -> None:
    assert in_limits(0.1, 0) > 1
    assert in_limits(0, 0) == 0


def test_keeps_single_precision() -> None:
    assert in_limits(np.ones(3, np.float32), np.ones(3, np.float32)).dtype == np.float32
    assert in_limits(np.ones((2, 2), np.float32), 0.5).dtype == np.float32
