"""A compacted topic, to which anybody may write: the last word under each key counts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Generic, TypeVar

from kafka import KafkaProducer
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from quarterturn.worker.contract.errors import DataError, UnavailableError
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka.connection import reaching, text
from quarterturn.worker.transport.kafka.producer import close_producer, confirm, producing
from quarterturn.worker.transport.kafka.reading import Reading
from quarterturn.worker.transport.kafka.topics import need_topics

log = logging.getLogger(__name__)

Word = TypeVar("Word")


class CompactedTopic(Generic[Word]):
    """Writes words to `topic`, and reads what anybody wrote; a record without a value takes a word back.

    `read_word` makes a word of a record's key and value. One that it refuses, with a DataError, is skipped and said
    once. One thread at a time reads; any may write.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: the topic does not exist.
    """

    def __init__(self, settings: KafkaSettings, topic: str, read_word: Callable[[bytes | None, bytes], Word]) -> None:
        self._settings, self._topic, self._read_word = settings, topic, read_word
        self._latest: dict[bytes, Word] = {}
        with reaching(settings):
            need_topics(settings, [topic])

    @cached_property
    def _reading(self) -> Reading:
        return Reading(self._settings, [self._topic], last=None)

    @cached_property
    def _producer(self) -> KafkaProducer:
        with reaching(self._settings):
            return KafkaProducer(**producing(self._settings))

    def write(self, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]] = ()) -> None:
        """Returns when it is stored.

        Raises:
            UnavailableError: it is not.
        """
        try:
            confirm([self._producer.send(self._topic, value, key, list(headers))])
        except KafkaError as error:
            raise UnavailableError(
                f"Kafka at {self._settings.bootstrap_servers}: nothing was stored in '{self._topic}' "
                f"({text(error)}); check the broker"
            ) from error

    @property
    def latest(self) -> tuple[Word, ...]:
        """The last word under each key, of what was read, in the order in which they were written."""
        return tuple(self._latest.values())

    def words(self) -> tuple[Word, ...]:
        """The last word under each key up to now, as `latest` gives them.

        Raises:
            UnavailableError: the broker refuses, or falls silent; or the topic was made anew.
        """
        self._reading.require_same_topics()
        for record in self._reading.until_now():
            self._take(record)
        return self.latest

    def poll(self, timeout_s: float) -> list[Word]:
        """What was written since `words`, or the last `poll`; waits at most `timeout_s` for the first.

        Raises:
            UnavailableError: the broker refuses, or the topic was made anew.
        """
        self._reading.require_same_topics()
        taken = [self._take(record) for record in self._reading.poll(timeout_s)]
        return [word for word in taken if word is not None]

    def close(self) -> None:
        """Release the connections; may be called twice."""
        if "_reading" in self.__dict__:
            self._reading.close()
        if "_producer" in self.__dict__:
            close_producer(self._producer, wait_s=2)

    def _take(self, record: ConsumerRecord) -> Word | None:
        """Remember what a record says."""
        try:
            word = self._read_word(record.key, record.value) if record.value is not None else None
        except DataError as error:
            log.warning("%s[%d]@%d: skipped, %s", record.topic, record.partition, record.offset, error)
            return None
        self._latest.pop(record.key or b"", None)
        if word is not None:
            self._latest[record.key or b""] = word
        return word
