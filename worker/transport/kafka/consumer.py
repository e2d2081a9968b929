"""Reading a topic, as one member of a consumer group."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError, LogTruncationError, NoOffsetForPartitionError, OffsetOutOfRangeError
from kafka.structs import MemberState

from quarterturn.worker.messages.events import Outcome
from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.messages.settled import Settled
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka import connection
from quarterturn.worker.transport.kafka.connection import common, ms, reaching, text
from quarterturn.worker.transport.kafka.fetching import look_twice
from quarterturn.worker.transport.kafka.positions import (
    Note,
    Positions,
    Stretches,
    behind,
    present_note,
    settled_of,
    start_of,
    to_commit,
)
from quarterturn.worker.transport.kafka.records import frame_of
from quarterturn.worker.transport.kafka.topics import asked_topic_id, known_topic_id, need_topics

log = logging.getLogger(__name__)

_HEARTBEAT_S = 1.0  # also how soon a member learns of a rebalance
_AWAY_S = 60.0  # a member that does not poll for so long is given up; a rebalance waits no longer for the dead, either
_REBALANCE_S = 5.0  # how long a poll may stay with a rebalance,
_STAY_S = 0.2  # in steps of so long
_LOOK_S = 10.0  # how often the topic's id and its number of partitions are looked up
_FETCH_BYTES = 16 * 2**20  # buffered ahead; a larger frame is fetched alone (KIP-74)
_ANY_SIZE = 2**31 - 1  # the topic's max.message.bytes is the limit; with a lower one here the worker would get stuck

Records = dict[TopicPartition, list[ConsumerRecord]]


@dataclass(frozen=True, slots=True)
class Member:
    """Who we are in the consumer group, and in which of its generations; a negative one: not a member."""

    group: str
    generation: int
    id: str


class GroupConsumer:
    """One member of a consumer group, reading `topic`; `needed` are all topics that must be there.

    All methods raise BrokerError.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: a topic does not exist.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        needed: Iterable[str],
        assignor: type[RangePartitionAssignor] = RangePartitionAssignor,
    ) -> None:
        self._settings, self._topic, self._assignor = settings, topic, assignor
        self.begun: dict[int, Settled] = {}  # by partition: as it was when reading began last
        self._note: Note | None = None
        self._placed: Member | None = None  # who was sent to the committed positions
        self._stretches = Stretches()
        with reaching(settings):
            need_topics(settings, needed)
            self._consumer = self._open()

    def poll(self, max_records: int, timeout_s: float) -> tuple[Member, Records]:
        """Waiting records, and the member that we are now; may take longer while the group is rebalanced."""
        records = self._poll(max_records, timeout_s)
        deadline_s = time.monotonic() + _REBALANCE_S
        # kafka-python forgets a rebalance that ends between two polls, and asks for another, without end: stay in poll.
        # One for new partitions it even forgets as it begins, and would wait for ever: ask for it again.
        while self._state == MemberState.REBALANCING and time.monotonic() < deadline_s:
            self._consumer._coordinator.request_rejoin()
            records = self._poll(max_records, _STAY_S)
        if self._is_made_anew():
            log.warning("%s was deleted and made anew", self._topic)
            records = self._join_anew()
        return self._member(), records

    def frames(self, records: Records) -> list[Frame]:
        """Those that the records hold."""
        topic_id = self._note.topic_id if self._note else None
        return [
            frame_of(record, topic_id, self._stretches.number(partition))
            for partition, found in records.items()
            for record in found
        ]

    def go_to_committed(self) -> list[str]:
        """Continue every assigned partition at its committed position; returns their names.

        A partition without one starts as the settings say, or at its beginning where it was added after the group had
        begun, and commits that at once: what arrives from now on is never skipped, whoever comes to own it.
        """
        topic_id = asked_topic_id(self._consumer, self._topic) or (self._note.topic_id if self._note else None)
        assigned = self._consumer.assignment()
        partitions = self._consumer.partitions_for_topic(self._topic)
        # Those of others once is enough, for the note: each may have to wait for an open transaction.
        asked = partitions if self._note is None else {one.partition for one in assigned}
        committed = self._committed(asked)
        self._note = note = present_note(committed.values(), topic_id, len(partitions), self._note)
        oldest = self._consumer.beginning_offsets(assigned, timeout_ms=ms(connection.ANSWER_S))
        newest = self._consumer.end_offsets(assigned, timeout_ms=ms(connection.ANSWER_S))
        first: dict[TopicPartition, OffsetAndMetadata] = {}
        self.begun = {}
        for one in assigned:
            held, position = range(oldest[one], newest[one]), committed.get(one.partition)
            start = start_of(one.partition, held, position, note, self._settings.start)
            if start.why:
                log.warning("%s[%d]@%d: %s", *one, position.offset if position else start.offset, start.why)
            self.begun[one.partition] = settled_of(position, start)
            if start.new:
                first[one] = OffsetAndMetadata(start.offset, str(note), -1)
            self._consumer.seek(one, start.offset)
            self._stretches.begin(one, start.offset)
        if first:
            self._consumer.commit(first, timeout_ms=ms(connection.ANSWER_S))
        self._placed = self._member()
        return sorted(f"{topic}[{partition}]" for topic, partition in assigned)

    def behind(self, outcomes: Sequence[Outcome]) -> Positions:
        """The positions to be committed when `outcomes` are published."""
        assert self._note is not None  # their frames were given after `go_to_committed`
        return behind(outcomes, self._note)

    def at(self, settled: Mapping[int, Settled]) -> Positions:
        """The positions to be committed so that reading begins anew with what is `settled`, by partition."""
        assert self._note is not None  # as above
        return {
            TopicPartition(self._topic, partition): to_commit(one, self._note) for partition, one in settled.items()
        }

    def commit(self, positions: Positions, member: Member) -> None:
        """Commit these positions in the name of `member`; refused where we are no more that one."""
        if member != self._member():
            raise connection.StaleMemberError
        self._consumer.commit(positions, timeout_ms=ms(connection.ANSWER_S))

    def done(self, positions: Positions) -> None:
        """These positions of ours are committed."""
        self._stretches.go_on(positions)

    def probe(self) -> None:
        """Ask the broker for something small."""
        self._consumer.end_offsets([TopicPartition(self._topic, 0)], timeout_ms=1000)

    def close(self) -> None:
        """Leave the group, so that the others take over at once."""
        _leave(self._consumer)

    def _open(self) -> KafkaConsumer:
        settings = self._settings
        consumer = KafkaConsumer(
            self._topic,
            **common(settings),
            group_id=settings.group,
            session_timeout_ms=ms(settings.session_timeout_s),
            max_poll_interval_ms=ms(away_s(settings)),
            heartbeat_interval_ms=ms(min(_HEARTBEAT_S, settings.session_timeout_s / 3)),
            metadata_max_age_ms=ms(_LOOK_S),
            # No state is kept per partition, so an assignor that rebalances in one round is the best.
            partition_assignment_strategy=[self._assignor],
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",  # `go_to_committed` says where to go, and what was lost
            fetch_max_bytes=_FETCH_BYTES,
            max_partition_fetch_bytes=_FETCH_BYTES // 2,
            fetch_max_wait_ms=50,  # as long as one fetch waits for an idle partition, no other is sent
            receive_message_max_bytes=_ANY_SIZE,
        )
        look_twice(consumer)
        try:  # else the first generation would be formed without the topic's partitions, and replaced at once
            consumer.partitions_for_topic(self._topic)
        except BaseException:
            _leave(consumer)
            raise
        return consumer

    def _poll(self, max_records: int, timeout_s: float) -> Records:
        try:
            records: Records = self._consumer.poll(ms(timeout_s), max_records=max_records)
        except NoOffsetForPartitionError:
            return {}  # we have joined, and are not yet where `go_to_committed` sends us
        except (OffsetOutOfRangeError, LogTruncationError) as error:
            if self._member() != self._placed:
                return {}  # as above: the position was kafka-python's own
            log.warning("%s: the frames that come next are gone (%s)", self._topic, text(error))
            return self._join_anew()
        return records

    def _join_anew(self) -> Records:
        """Be another member of the group: what was fetched ahead is forgotten, and what was polled is not delivered."""
        before, self._consumer = self._consumer, self._open()
        self._placed = None
        _leave(before)
        return {}

    def _committed(self, partitions: Iterable[int]) -> dict[int, OffsetAndMetadata]:
        """The group's positions, by partition."""
        committed = {
            partition: self._consumer.committed(
                TopicPartition(self._topic, partition), metadata=True, timeout_ms=ms(connection.ANSWER_S)
            )
            for partition in partitions
        }
        return {partition: position for partition, position in committed.items() if position is not None}

    def _is_made_anew(self) -> bool:
        if self._placed is None or self._note is None:
            return False  # `go_to_committed` finds out
        return not self._note.is_of(known_topic_id(self._consumer, self._topic))

    @property
    def member_id(self) -> str:
        """Our id in the group, empty before the first try to join it. Any thread may ask."""
        found: str = self._consumer.group_metadata().member_id
        return found

    def lag(self) -> dict[str, int]:
        """How many frames wait behind those that were polled, by partition, as far as fetching has told so far."""
        waiting = self.waiting()
        return {f"{self._topic}[{partition}]": count for partition, count in waiting.items() if count is not None}

    def waiting(self) -> dict[int, int | None]:
        """How many records wait behind those that were polled, by partition; None: nobody has told so far."""
        waiting: dict[int, int | None] = {}
        with contextlib.suppress(KafkaError):
            for one in self._consumer.assignment():
                newest, position = self._consumer.highwater(one), self._consumer.position(one, timeout_ms=0)
                known = newest is not None and position is not None
                waiting[one.partition] = max(0, newest - position) if known else None
        return waiting

    def _member(self) -> Member:
        now = self._consumer.group_metadata()
        return Member(now.group_id, now.generation_id if now.state == MemberState.STABLE else -1, now.member_id)

    @property
    def _state(self) -> str:
        state: str = self._consumer.group_metadata().state
        return state


def _leave(consumer: KafkaConsumer) -> None:
    with contextlib.suppress(KafkaError):
        consumer.close(autocommit=False, timeout_ms=2000)


def away_s(settings: KafkaSettings) -> float:
    """After how long without a poll the group gives a member up."""
    return max(_AWAY_S, settings.session_timeout_s)
