from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.worker.messages.settled import Settled
from quarterturn.worker.parts.marks import Marks


@dataclass
class Record:
    settled: bool


kinds = st.sampled_from(["open", "settled", "forgotten", "gap"])  # a gap: no record, as the marks of transactions


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 2**62), st.lists(kinds, max_size=60))
def test_what_is_open_is_read_again_and_all_else_is_known_as_settled(begin: int, fates: list[str]) -> None:
    marks = Marks(Settled(begin))
    for offset, fate in enumerate(fates, begin):
        if fate == "gap":
            continue
        assert not marks.read(offset)
        marks.remember(offset, Record(fate == "settled"))
        if fate == "forgotten":
            marks.forget(offset)
    committed = marks.settled()
    remembered = [offset for offset, fate in enumerate(fates, begin) if fate in ("open", "settled")]
    read = [offset for offset, fate in enumerate(fates, begin) if fate != "gap"]
    assert committed.position == (remembered or [max(read, default=begin - 1) + 1])[0]
    again = Marks(committed)
    for offset in range(committed.position, begin + len(fates) + 20):
        fate = fates[offset - begin] if offset - begin < len(fates) else "new"
        if fate != "gap":
            assert again.read(offset) == (fate in ("settled", "forgotten")), (offset - begin, fate)


@pytest.mark.parametrize("text", ["", "=", "\x00", "é", "a", "****"])
def test_what_is_no_such_text_marks_nothing(text: str) -> None:
    marks = Marks(Settled(5, text))
    assert not any(marks.read(offset) for offset in range(5, 100))


def test_a_partition_whose_oldest_records_retention_took_is_read_on_by_the_same_marks() -> None:
    marks = Marks(Settled(0))
    for offset in range(20):
        marks.read(offset)
        marks.remember(offset, Record(offset % 2 == 0))
    again = Marks(marks.settled())
    assert [again.read(offset) for offset in range(10, 20)] == [offset % 2 == 0 for offset in range(10, 20)]


def test_what_was_known_of_records_that_are_not_read_again_yet_stays_known() -> None:
    """Positions are committed while all that was remembered is read once more."""
    marks = Marks(Settled(0))
    for offset in range(20):
        marks.read(offset)
        marks.remember(offset, Record(offset not in (0, 3, 11)))
    again = Marks(marks.settled())
    for offset in range(3):
        again.read(offset)
        again.remember(offset, Record(settled=True))
        again.forget(offset)
    third = Marks(again.settled())
    assert [offset for offset in range(3, 25) if not third.read(offset)] == [3, 11, 20, 21, 22, 23, 24]
