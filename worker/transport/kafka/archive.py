"""Frames of the past, fetched again by the positions that results name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError

from quarterturn.worker.contract.errors import GoneError, NoFrameError, UnavailableError
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka.connection import common, ms, reaching, text
from quarterturn.worker.transport.kafka.records import frame_of
from quarterturn.worker.transport.kafka.topics import asked_topic_id, need_topics

_FETCH_BYTES = 2**20  # ahead of what is asked for; a larger frame is fetched alone (KIP-74)
_ANY_SIZE = 2**31 - 1

Found = dict[Position, Frame | GoneError]


class FrameArchive:
    """The frames that the line's topic still holds, outside any group.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: the topic does not exist.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._bootstrap_servers, self._topic = settings.bootstrap_servers, settings.topics.frames
        with reaching(settings):
            need_topics(settings, [self._topic])
            self._consumer = KafkaConsumer(
                **common(settings),
                isolation_level="read_committed",
                auto_offset_reset="none",
                fetch_max_wait_ms=50,  # as long as one fetch waits behind the last frame, no other is sent
                max_partition_fetch_bytes=_FETCH_BYTES,
                receive_message_max_bytes=_ANY_SIZE,
            )

    def fetch(self, positions: Sequence[Position], timeout_s: float = 10) -> Found:
        """The frame at each position, or why it is gone, in one sentence. All are in memory at once.

        Args:
            positions: of frames of the line; each once is enough.
            timeout_s: how long the broker may be silent.

        Raises:
            UnavailableError: it is silent for longer, or refuses.
        """
        try:
            return self._fetch(positions, timeout_s)
        except KafkaError as error:
            raise UnavailableError(
                f"Kafka at {self._bootstrap_servers}: no frames can be fetched from '{self._topic}' ({text(error)}); "
                "check the broker"
            ) from error

    def close(self) -> None:
        """Release the connection; may be called twice."""
        self._consumer.close()

    def _fetch(self, positions: Sequence[Position], timeout_s: float) -> Found:
        self._consumer.assign([TopicPartition(self._topic, 0)])  # kafka-python asks for topics that it reads alone
        topic_id = asked_topic_id(self._consumer, self._topic)
        partitions = self._consumer.partitions_for_topic(self._topic)
        found: Found = {}
        wanted: dict[int, list[Position]] = defaultdict(list)
        for position in positions:
            if why := self._elsewhere(position, topic_id):
                found[position] = GoneError(f"{position}: {why}")
            elif position.partition not in partitions:
                found[position] = NoFrameError(f"{position}: '{self._topic}' has no such partition")
            else:
                wanted[position.partition].append(position)
        for partition, here in wanted.items():
            held, frames = self._read(TopicPartition(self._topic, partition), here, topic_id, timeout_s)
            for position in here:
                found[position] = frames.get(position.offset) or _gone(position, held)
        return {position: found[position] for position in positions}

    def _elsewhere(self, position: Position, topic_id: str | None) -> str | None:
        """Why `position` is none of the topic as it is now, or None."""
        if position.topic != self._topic:
            return f"the line's frames are in '{self._topic}'; name the line that this result is of"
        if position.topic_id and topic_id and position.topic_id != topic_id:
            return "the topic was deleted and made anew since, so the frame is gone"
        return None

    def _read(
        self, partition: TopicPartition, wanted: Sequence[Position], topic_id: str | None, timeout_s: float
    ) -> tuple[range, dict[int, Frame]]:
        """The offsets that one partition holds, and its wanted frames that are there, by offset."""
        first = self._consumer.beginning_offsets([partition], timeout_ms=ms(timeout_s))[partition]
        end = self._consumer.end_offsets([partition], timeout_ms=ms(timeout_s))[partition]
        self._consumer.assign([partition])
        frames: dict[int, Frame] = {}
        for run in _runs(sorted({one.offset for one in wanted if first <= one.offset < end})):
            self._consumer.seek(partition, run.start)
            while (at := self._consumer.position(partition, timeout_ms=0)) < run.stop:
                try:
                    records = self._consumer.poll(ms(timeout_s), max_records=run.stop - at)
                except OffsetOutOfRangeError:
                    break  # retention has just been there
                if not records and self._consumer.position(partition, timeout_ms=0) == at:
                    raise UnavailableError(
                        f"Kafka at {self._bootstrap_servers}: {partition.topic}[{partition.partition}]@{at} was not "
                        f"given within {timeout_s:g} s; check the broker"
                    )
                frames |= {record.offset: frame_of(record, topic_id) for record in records.get(partition, ())}
        return range(first, end), frames


def _runs(offsets: Sequence[int]) -> Iterator[range]:
    """Ascending offsets as stretches without a gap, each to be read in one go."""
    begin = 0
    for index in range(1, len(offsets) + 1):
        if index == len(offsets) or offsets[index] != offsets[index - 1] + 1:
            yield range(offsets[begin], offsets[index - 1] + 1)
            begin = index


def _gone(position: Position, held: range) -> GoneError:
    if position.offset >= held.stop:
        last = f"the last frame of its partition is {held.stop - 1}" if held else "its partition is empty"
        return NoFrameError(f"{position}: there is no such frame yet, {last}; correct the number")
    return GoneError(f"{position}: the frame is gone; retention has deleted it, raise the topic's retention.ms")
