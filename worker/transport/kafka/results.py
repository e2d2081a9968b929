"""Reading the results, as they are committed."""

from __future__ import annotations

import json
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka.connection import common, ms, reaching, text
from quarterturn.worker.transport.kafka.topics import need_topics


class ResultReader:
    """Reads verdicts and dead letters as they are committed, from now on and from all partitions.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: a topic does not exist.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._bootstrap_servers = settings.bootstrap_servers
        topics = (settings.topics.verdicts, settings.topics.dead_letters)
        with reaching(settings):
            need_topics(settings, topics)
            consumer = KafkaConsumer(**common(settings), isolation_level="read_committed")
            partitions = [TopicPartition(topic, n) for topic in topics for n in consumer.partitions_for_topic(topic)]
            consumer.assign(partitions)
            for partition, end in consumer.end_offsets(partitions).items():
                consumer.seek(partition, end)
        self._consumer = consumer

    def poll(self, timeout_s: float) -> list[dict[str, Any]]:
        """The data of the results that came in; waits at most `timeout_s` for the first.

        Raises:
            UnavailableError: the broker refuses.
        """
        try:
            records = self._consumer.poll(ms(timeout_s))
        except KafkaError as error:
            raise UnavailableError(
                f"Kafka at {self._bootstrap_servers}: no results can be read ({text(error)}); check the broker"
            ) from error
        return [json.loads(record.value) for partition in records.values() for record in partition]

    def close(self) -> None:
        """Release the connection; may be called twice."""
        self._consumer.close()
