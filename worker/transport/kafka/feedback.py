"""The topic of what people say of results: compacted, so that it keeps the last word on each."""

from __future__ import annotations

import logging
from functools import cached_property

from kafka import KafkaProducer
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from quarterturn.worker.contract.errors import DataError, UnavailableError
from quarterturn.worker.messages.feedback import Feedback, event_of, read_feedback
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka.connection import reaching, text
from quarterturn.worker.transport.kafka.producer import close_producer, confirm, producing
from quarterturn.worker.transport.kafka.reading import Reading
from quarterturn.worker.transport.kafka.topics import need_topics

log = logging.getLogger(__name__)


class FeedbackTopic:
    """Writes feedback, and reads what anybody wrote; a record that is no valid feedback is skipped, with one warning.

    One thread reads; any may publish.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: the topic does not exist.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings, self._topic = settings, settings.topics.feedback
        self._latest: dict[str, Feedback] = {}
        with reaching(settings):
            need_topics(settings, [self._topic])

    @cached_property
    def _reading(self) -> Reading:
        return Reading(self._settings, [self._topic], last=None)

    @cached_property
    def _producer(self) -> KafkaProducer:
        with reaching(self._settings):
            return KafkaProducer(**producing(self._settings))

    def publish(self, feedback: Feedback) -> None:
        """Returns when it is stored.

        Raises:
            UnavailableError: it is not.
        """
        event = event_of(feedback)
        try:
            confirm([self._producer.send(self._topic, event.value, event.key, list(event.headers))])
        except KafkaError as error:
            raise UnavailableError(
                f"Kafka at {self._settings.bootstrap_servers}: feedback was not stored in '{self._topic}' "
                f"({text(error)}); check the broker"
            ) from error

    def read(self) -> dict[str, Feedback]:
        """The last word on each result, by the result's id, in the order of these words.

        Raises:
            UnavailableError: the broker refuses, or falls silent.
        """
        for record in self._reading.until_now():
            self._take(record)
        return dict(self._latest)

    def poll(self, timeout_s: float) -> list[Feedback]:
        """What was written since `read`, or the last `poll`; waits at most `timeout_s` for the first.

        Raises:
            UnavailableError: the broker refuses.
        """
        taken = [self._take(record) for record in self._reading.poll(timeout_s)]
        return [feedback for feedback in taken if feedback is not None]

    def close(self) -> None:
        """Release the connections; may be called twice."""
        if "_reading" in self.__dict__:
            self._reading.close()
        if "_producer" in self.__dict__:
            close_producer(self._producer, wait_s=2)

    def _take(self, record: ConsumerRecord) -> Feedback | None:
        """Remember what a record says; one without a value takes back what was said."""
        try:
            feedback = read_feedback(record.key, record.value) if record.value is not None else None
        except DataError as error:
            log.warning("%s[%d]@%d: skipped, %s", record.topic, record.partition, record.offset, error)
            return None
        self._latest.pop((record.key or b"").decode("utf-8", "replace"), None)
        if feedback is not None:
            self._latest[feedback.result_id] = feedback
        return feedback
