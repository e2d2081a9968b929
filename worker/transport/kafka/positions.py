"""Where a partition is read from, and what is committed with each position."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kafka import OffsetAndMetadata, TopicPartition

from quarterturn.worker.messages.events import Outcome
from quarterturn.worker.messages.settled import Settled

Positions = Mapping[TopicPartition, OffsetAndMetadata]


@dataclass(frozen=True, slots=True)
class Note:
    """What stands beside a committed position: in which topic it is, and how many partitions the group began with.

    What is settled behind the position may stand behind it, see `to_commit`.

    Kafka knows positions by the topic's name alone: one of a topic that was deleted would be taken for one of the topic
    that has its name now. And a partition that is not among the first was added later, so all of it is to be inspected.
    """

    topic_id: str | None
    partitions: int

    @classmethod
    def of(cls, position: OffsetAndMetadata) -> Note:
        """The note beside `position`; one that others committed, or we before we wrote notes, knows nothing."""
        found = re.fullmatch(r"topic=(\S*) partitions=(\d+)(?: .*)?", _beside(position), re.ASCII)
        return cls(found[1] or None, int(found[2])) if found else cls(None, 0)

    def __str__(self) -> str:
        return f"topic={self.topic_id or ''} partitions={self.partitions}"

    def is_of(self, topic_id: str | None) -> bool:
        """Whether the position beside it may be one in the topic `topic_id`; brokers before 2.8 have no such ids."""
        return None in (self.topic_id, topic_id) or self.topic_id == topic_id


def present_note(
    committed: Iterable[OffsetAndMetadata], topic_id: str | None, partitions: int, known: Note | None
) -> Note:
    """The note of the topic as it is now, with so many `partitions`.

    `committed` are the group's positions in all of them, `known` is the note that we had so far.
    """
    notes = [*map(Note.of, committed), *([known] if known else [])]
    if not all(note.is_of(topic_id) for note in notes):
        return Note(topic_id, 0)  # the group was there before the topic, so none of its partitions was
    return Note(topic_id, min((note.partitions for note in notes), default=partitions))


@dataclass(frozen=True, slots=True)
class Start:
    """Where a partition is read from; `why` is what is to be said of it, and `new` that it is to be committed."""

    offset: int
    new: bool = False
    why: str | None = None


def start_of(
    partition: int, held: range, committed: OffsetAndMetadata | None, note: Note, begin: Literal["earliest", "latest"]
) -> Start:
    """Where to read `partition`, which holds the offsets `held`, in a topic with that present note."""
    if committed is None:
        was_there = partition < note.partitions
        return Start(held.stop if begin == "latest" and was_there else held.start, new=True)
    offset = committed.offset
    if not Note.of(committed).is_of(note.topic_id):
        return Start(
            held.start, True, "the topic was deleted and made anew; its frames are inspected from the first on"
        )
    if offset > held.stop:
        text = f"there are frames up to {held.stop} only: the topic was made anew, or the broker lost some; "
        return Start(held.start, True, f"{text}all that it has are inspected")
    if offset < held.start:
        return Start(held.start, False, f"retention deleted {held.start - offset} frames that were not inspected")
    return Start(offset)


def settled_of(committed: OffsetAndMetadata | None, start: Start) -> Settled:
    """What was settled as `committed` was, of which `start` has become where to read."""
    if committed is None or start.new:
        return Settled(start.offset)
    found = re.search(r" done=(\S*)$", _beside(committed), re.ASCII)
    return Settled(committed.offset, found[1] if found else "")


def to_commit(settled: Settled, note: Note) -> OffsetAndMetadata:
    """It as a position to be committed, beside this note."""
    beside = f"{note} done={settled.done}" if settled.done else str(note)
    return OffsetAndMetadata(settled.position, beside, -1)


def behind(outcomes: Sequence[Outcome], note: Note) -> Positions:
    """The positions behind the last frame of each partition."""
    last = {TopicPartition(o.position.topic, o.position.partition): o.position.offset for o in outcomes}
    return {partition: OffsetAndMetadata(offset + 1, str(note), -1) for partition, offset in last.items()}


class Stretches:
    """Numbers, in each partition, the stretches of frames that were given here with none in between given to others."""

    def __init__(self) -> None:
        self._numbers: Counter[TopicPartition] = Counter()
        self._ends: dict[TopicPartition, int] = {}

    def number(self, partition: TopicPartition) -> int:
        """That of the present one."""
        return self._numbers[partition]

    def begin(self, partition: TopicPartition, offset: int) -> None:
        """The partition is read from `offset` on: within its stretch only if that ended there."""
        if self._ends.get(partition) != offset:
            self._numbers[partition] += 1
            self._ends[partition] = offset

    def go_on(self, positions: Positions) -> None:
        """The frames before these positions are done, by us."""
        self._ends |= {partition: position.offset for partition, position in positions.items()}


def _beside(position: OffsetAndMetadata) -> str:
    return (position.metadata or "").rstrip("\0")  # librdkafka ends it so where a tool copies positions
