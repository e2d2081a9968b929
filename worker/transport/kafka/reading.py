"""Reading all partitions of some topics outside any group, from a chosen place on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka import connection
from quarterturn.worker.transport.kafka.connection import common, ms, reaching, text
from quarterturn.worker.transport.kafka.topics import asked_topic_id, known_topic_id, need_topics

_LOOK_S = 10.0  # how often the topics' ids are looked up


class Reading:
    """Gives the committed records of `topics`, in order for each partition.

    Args:
        settings: where the broker is.
        topics: which exist.
        last: begin so many records before the end of each partition; the marks of transactions count as records.
            0: at the end, None: at the beginning.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: a topic does not exist.
    """

    def __init__(self, settings: KafkaSettings, topics: Sequence[str], last: int | None) -> None:
        self._where = f"Kafka at {settings.bootstrap_servers}: {' and '.join(topics)}"
        with reaching(settings):
            need_topics(settings, topics)
            self._consumer = KafkaConsumer(
                **common(settings),
                isolation_level="read_committed",
                auto_offset_reset="earliest",  # where the records that come next were deleted
                metadata_max_age_ms=ms(_LOOK_S),
            )
            try:
                self._begin(topics, last)
            except BaseException:
                self.close()
                raise

    def _begin(self, topics: Sequence[str], last: int | None) -> None:
        consumer = self._consumer
        self._partitions = [TopicPartition(topic, n) for topic in topics for n in consumer.partitions_for_topic(topic)]
        consumer.assign(self._partitions)
        self._ids = {topic: asked_topic_id(consumer, topic) for topic in topics}
        first, ends = consumer.beginning_offsets(self._partitions), consumer.end_offsets(self._partitions)
        for one in self._partitions:
            consumer.seek(one, first[one] if last is None else max(first[one], ends[one] - last))

    def poll(self, timeout_s: float) -> list[ConsumerRecord]:
        """The records that came in; waits at most `timeout_s` for the first.

        Raises:
            UnavailableError: the broker refuses.
        """
        with self._reached():
            records = self._consumer.poll(ms(timeout_s))
        return [record for partition in records.values() for record in partition]

    def until_now(self) -> Iterator[ConsumerRecord]:
        """The records up to those that are the last ones now.

        Raises:
            UnavailableError: the broker refuses, or falls silent.
        """
        ends = self._ends(self._partitions)
        heard_s = time.monotonic()
        while any(self._position(one) < end for one, end in ends.items()):
            if records := self.poll(0.1):
                heard_s = time.monotonic()
                yield from records
            elif time.monotonic() - heard_s > connection.ANSWER_S:
                raise self._unreadable(f"no answer within {connection.ANSWER_S:g} s")

    def go_on(self, places: Mapping[str, int]) -> None:
        """Begin at `places`, as `places` gave them, where that is further on than where it would have begun.

        A topic that was made anew since is not the one that they are of.
        """
        for name, one in self._names().items():
            if self._position(one) < (place := places.get(name, 0)):
                self._consumer.seek(one, place)

    def places(self) -> dict[str, int]:
        """The offset that each partition goes on at, by a name that tells a topic from one made anew."""
        return {name: self._position(one) for name, one in self._names().items()}

    def behind(self) -> int:
        """How many records there are that were not given yet; the marks of transactions count as records.

        Raises:
            UnavailableError: the broker does not answer.
        """
        ends = self._ends(self._partitions)
        return sum(max(0, end - self._position(one)) for one, end in ends.items())

    def ends(self, topic: str) -> dict[int, int]:
        """The offset that the next record of each partition of `topic` gets; it need not be one of those read.

        Raises:
            UnavailableError: the broker does not answer.
        """
        with self._reached():
            numbers = self._consumer.partitions_for_topic(topic) or set()
        return {one.partition: end for one, end in self._ends([TopicPartition(topic, n) for n in numbers]).items()}

    def require_same_topics(self) -> None:
        """Refuse to go on where a topic was made anew: what was read of it before is no part of it.

        Raises:
            UnavailableError: that is so.
        """
        for topic, id_ in self._ids.items():
            if None not in (id_, now := known_topic_id(self._consumer, topic)) and now != id_:
                raise UnavailableError(f"{self._where}: '{topic}' was deleted and made anew; it has to be read anew")

    def close(self) -> None:
        """Release the connection; may be called twice."""
        self._consumer.close()

    def _position(self, one: TopicPartition) -> int:
        """Where it goes on; 0 while the broker is asked where its records begin now."""
        return self._consumer.position(one, timeout_ms=0) or 0

    def _names(self) -> dict[str, TopicPartition]:
        return {f"{one.topic}:{self._ids[one.topic] or ''}:{one.partition}": one for one in self._partitions}

    def _ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        with self._reached():
            return dict(self._consumer.end_offsets(partitions, timeout_ms=ms(connection.ANSWER_S)))

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            raise self._unreadable(text(error)) from error

    def _unreadable(self, why: str) -> UnavailableError:
        return UnavailableError(f"{self._where} cannot be read ({why}); check the broker")
