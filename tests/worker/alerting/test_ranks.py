from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from quarterturn.worker.alerting.ranks import UNCOUNTED, Past
from quarterturn.worker.contract.usual import BINS, KINDS, Range

numbers = st.integers(-20, 20).map(lambda n: n / 4)


def past_of(usual: Range, stream: Sequence[float], quantity: int) -> Past:
    """A stream in which this quantity counts, and another one does now and then."""
    past = Past()
    for n, one in enumerate(stream):
        bins = [UNCOUNTED] * len(KINDS)
        bins[quantity - 1] = n % BINS if n % 3 else UNCOUNTED
        bins[quantity] = usual.bin_of(one)
        past = past.and_one_more(bins)
    return past


@given(
    st.lists(numbers, min_size=1, max_size=80),
    st.lists(st.tuples(numbers, st.floats(-1, 1)), max_size=100),
    numbers,
    st.floats(-1, 1),
    st.sampled_from([0.0, 0.25, 2.0]),
)
def test_ranks_are_never_below_those_of_the_stream_without_its_wandering(
    calibration: list[float], stream: list[tuple[float, float]], value: float, wanders: float, finest: float
) -> None:
    """Whatever each picture wanders by, within `finest`: so bets on them never win more than on the exact ones."""
    usual = Range.of(calibration, finest)
    past = past_of(usual, [one + w * finest for one, w in stream], 2)
    rising, falling = past.ranks(2, value + wanders * finest, usual)
    every = [*calibration, *(one for one, _ in stream), value]
    assert rising >= sum(one >= value for one in every) / len(every) - 1e-9
    assert falling >= sum(one <= value for one in every) / len(every) - 1e-9
    assert max(rising, falling) <= 1


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=300), st.lists(st.floats(-10, 10), max_size=40))
def test_ranks_are_exact_but_for_a_bin(calibration: list[float], stream: list[float]) -> None:
    usual = Range.of(calibration, 0.0)
    past, bins = past_of(usual, stream, 5), [usual.bin_of(one) for one in stream]
    for value in (*calibration[:5], *stream[:5]):
        every = [*calibration, *stream, value]
        rising, falling = past.ranks(5, value, usual)
        bin_share = bins.count(usual.bin_of(value)) / len(every)
        assert rising <= sum(one >= value for one in every) / len(every) + bin_share + 1e-9
        assert falling <= sum(one <= value for one in every) / len(every) + bin_share + 1e-9
