"""Where a partition is read from, by what is committed; test_kafka_topics.py asks a broker for the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import OffsetAndMetadata

from quarterturn.worker.transport.kafka.positions import Note, present_note, start_of

HELD = range(10, 20)


def at(offset: int, text: str = "topic=A partitions=2") -> OffsetAndMetadata:
    return OffsetAndMetadata(offset, text, -1)


@given(st.none() | st.from_regex(r"[a-zA-Z0-9_-]{22}", fullmatch=True), st.integers(0, 10_000))
def test_a_note_is_read_as_it_is_written(topic_id: str | None, partitions: int) -> None:
    note = Note(topic_id, partitions)
    assert Note.of(at(0, str(note))) == note


@pytest.mark.parametrize("text", ["", "somebody else's", "topic=A", "topic=A partitions=-1", "topic=A B partitions=1"])
def test_what_others_write_beside_a_position_says_nothing(text: str) -> None:
    assert Note.of(at(0, text)) == Note(None, 0)


@pytest.mark.parametrize(
    ("committed", "known", "partitions"),
    [
        ([], None, 4),  # the group begins
        ([], Note("A", 3), 3),  # it began with fewer
        ([at(0), at(0, "topic=A partitions=3")], None, 2),
        ([at(0, "")], None, 0),  # it began before notes were written: what has no position is new
        ([at(0, "topic=B partitions=2")], None, 0),  # of the topic before
        ([], Note("B", 2), 0),
        ([at(0, "topic= partitions=2")], None, 2),  # of a broker that knew no ids
    ],
)
def test_how_many_partitions_the_group_began_with(
    committed: Sequence[OffsetAndMetadata], known: Note | None, partitions: int
) -> None:
    assert present_note(committed, "A", 4, known) == Note("A", partitions)


@pytest.mark.parametrize(
    ("partition", "committed", "begin", "offset", "new"),
    [
        (0, None, "earliest", 10, True),
        (0, None, "latest", 20, True),
        (2, None, "latest", 10, True),  # added later
        (0, at(10), "latest", 10, False),
        (0, at(20), "latest", 20, False),
        (0, at(15, ""), "latest", 15, False),
        (0, at(5), "latest", 10, False),  # retention
        (0, at(21), "latest", 10, True),  # beyond the end
        (0, at(15, "topic=B partitions=1"), "latest", 10, True),
    ],
)
def test_where_a_partition_is_read_from(
    *,
    partition: int,
    committed: OffsetAndMetadata | None,
    begin: Literal["earliest", "latest"],
    offset: int,
    new: bool,
) -> None:
    start = start_of(partition, HELD, committed, Note("A", 2), begin)
    assert (start.offset, start.new) == (offset, new)
    expected = committed is not None and (committed.offset != offset)
    assert (start.why is not None) == expected
