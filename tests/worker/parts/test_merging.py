from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.worker.parts.merging import Item, Merging
from tests.worker.parts.frames import seen

times = st.lists(st.integers(0, 30), max_size=12).map(sorted)


@settings(derandomize=True, deadline=None)
@given(st.lists(times, min_size=1, max_size=3), st.integers(0, 2**32))
def test_records_come_by_time_however_partitions_are_read(logs: list[list[int]], seed: int) -> None:
    """Also where one is read to its end before the first record of another."""
    logs_left = [[Item(n, offset, seen("p", time_s=t)) for offset, t in enumerate(log)] for n, log in enumerate(logs)]
    merging, given_out, rng = Merging(), [], random.Random(seed)
    while any(logs_left):
        partition = rng.choice([n for n, log in enumerate(logs_left) if log])
        for _ in range(rng.randint(1, 5)):
            if logs_left[partition]:
                merging.put(logs_left[partition].pop(0))
        given_out += merging.ready([n for n, log in enumerate(logs_left) if log], now_s=0.0)
    found = [(item.seen.time_s, item.partition) for item in given_out]  # type: ignore[union-attr]
    assert [time for time, _ in found] == sorted(time for log in logs for time in log)
    for n, log in enumerate(logs):
        assert [time for time, partition in found if partition == n] == log


def test_a_partition_that_gives_nothing_is_waited_for_a_second_only() -> None:
    """A transaction may hang there."""
    merging = Merging()
    merging.put(Item(0, 0, seen("p")))
    assert list(merging.ready({1}, now_s=10.0)) == []
    assert merging.waits({1}, now_s=10.9)
    assert list(merging.ready({1}, now_s=11.0)) == [Item(0, 0, seen("p"))]
    assert not merging.waits(set(), now_s=12.0)
    assert merging.waits({1}, now_s=20.0), "a second for each time"


def test_what_counts_for_no_part_holds_up_nobody() -> None:
    merging = Merging()
    merging.put(Item(0, 0, "no_part_id"))
    merging.put(Item(1, 0, seen("p", time_s=-9.0)))
    assert [item.partition for item in merging.ready((), 0.0)] == [0, 1]
