"""Reading all partitions of some topics outside any group, from a chosen place on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka import connection
from quarterturn.worker.transport.kafka.connection import common, ms, reaching, text
from quarterturn.worker.transport.kafka.topics import need_topics


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
            consumer = KafkaConsumer(**common(settings), isolation_level="read_committed")
            self._partitions = [
                TopicPartition(topic, n) for topic in topics for n in consumer.partitions_for_topic(topic)
            ]
            consumer.assign(self._partitions)
            first, ends = consumer.beginning_offsets(self._partitions), consumer.end_offsets(self._partitions)
            for one in self._partitions:
                consumer.seek(one, first[one] if last is None else max(first[one], ends[one] - last))
        self._consumer = consumer

    def poll(self, timeout_s: float) -> list[ConsumerRecord]:
        """The records that came in; waits at most `timeout_s` for the first.

        Raises:
            UnavailableError: the broker refuses.
        """
        try:
            records = self._consumer.poll(ms(timeout_s))
        except KafkaError as error:
            raise self._unreadable(text(error)) from error
        return [record for partition in records.values() for record in partition]

    def until_now(self) -> Iterator[ConsumerRecord]:
        """The records up to those that are the last ones now.

        Raises:
            UnavailableError: the broker refuses, or falls silent.
        """
        try:
            ends = self._consumer.end_offsets(self._partitions)
        except KafkaError as error:
            raise self._unreadable(text(error)) from error
        heard_s = time.monotonic()
        while any(self._consumer.position(one, timeout_ms=0) < end for one, end in ends.items()):
            if records := self.poll(0.1):
                heard_s = time.monotonic()
                yield from records
            elif time.monotonic() - heard_s > connection.ANSWER_S:
                raise self._unreadable(f"no answer within {connection.ANSWER_S:g} s")

    def close(self) -> None:
        """Release the connection; may be called twice."""
        self._consumer.close()

    def _unreadable(self, why: str) -> UnavailableError:
        return UnavailableError(f"{self._where} cannot be read ({why}); check the broker")
