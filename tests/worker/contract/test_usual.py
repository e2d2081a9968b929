from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterturn.worker.contract.guard import measure
from quarterturn.worker.contract.usual import BINS, KINDS, Range, Usual, quantities
from tests.parts import good_part

numbers = st.integers(-20, 20).map(lambda n: n / 4)


def counted(usual: Range, stream: Sequence[float]) -> list[int]:
    counts = [0] * BINS
    for one in stream:
        counts[usual.bin_of(one)] += 1
    return counts


@given(
    st.lists(numbers, min_size=1, max_size=80),
    st.lists(st.tuples(numbers, st.floats(-1, 1)), max_size=60),
    numbers,
    st.floats(-1, 1),
    st.sampled_from([0.0, 0.25, 2.0]),
)
def test_ranks_are_never_below_those_of_the_stream_without_its_wandering(
    calibration: list[float], stream: list[tuple[float, float]], value: float, wanders: float, finest: float
) -> None:
    """Whatever each picture wanders by, within `finest`: so bets on them never win more than on the exact ones."""
    usual = Range.of(calibration, finest)
    rising, falling = usual.ranks(value + wanders * finest, counted(usual, [one + w * finest for one, w in stream]))
    every = [*calibration, *(one for one, _ in stream), value]
    assert rising >= sum(one >= value for one in every) / len(every) - 1e-9
    assert falling >= sum(one <= value for one in every) / len(every) - 1e-9
    assert max(rising, falling) <= 1


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=300), st.lists(st.floats(-10, 10), max_size=40))
def test_ranks_are_exact_but_for_a_bin(calibration: list[float], stream: list[float]) -> None:
    usual = Range.of(calibration, 0.0)
    counts = counted(usual, stream)
    for value in (*calibration[:5], *stream[:5]):
        every = [*calibration, *stream, value]
        rising, falling = usual.ranks(value, counts)
        bin_share = counts[usual.bin_of(value)] / len(every)
        assert rising <= sum(one >= value for one in every) / len(every) + bin_share + 1e-9
        assert falling <= sum(one <= value for one in every) / len(every) + bin_share + 1e-9


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.1])
def test_a_weak_lamp_is_no_blur(factor: float) -> None:
    part = good_part(np.random.default_rng(0))
    lit = cv2.convertScaleAbs(part, alpha=factor)
    blurred = cv2.GaussianBlur(part, (0, 0), 0.5)
    sharp, weak, soft = (
        quantities(1.0, measure(one[None].astype(np.uint8)), np.zeros(4, np.float32))[2] for one in (part, lit, blurred)
    )
    assert abs(weak - sharp) < 0.1 < sharp - soft


def test_what_cannot_be_told_has_no_range() -> None:
    pictures = np.random.default_rng(0).normal(size=(50, len(KINDS))).tolist()
    ranges = Usual.of("bank", "ring", pictures, np.array([1, 0, 0, 1])).ranges
    assert [kind.name for kind, one in zip(KINDS, ranges, strict=True) if one is None] == ["y", "turn"]
    for n, one in enumerate(ranges):
        if one is not None:
            values = [picture[n] for picture in pictures]
            assert one.middle == pytest.approx(np.median(values))
            assert one.deviation(one.middle + one.spread) == pytest.approx(1)
            assert 0.5 < one.spread < 1.5


def test_pictures_that_are_all_alike_have_the_least_spread() -> None:
    ranges = Usual.of("bank", "ring", [[0.5] * len(KINDS)] * 9, np.ones(4)).ranges
    assert [one and one.spread for one in ranges] == [max(kind.finest, 1e-9) for kind in KINDS]
