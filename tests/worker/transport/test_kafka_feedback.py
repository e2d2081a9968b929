"""Feedback on a real broker, written and read by clients of others."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft202012Validator

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.messages.feedback import Feedback
from quarterturn.worker.settings.worker import Topics
from quarterturn.worker.transport.kafka.feedback import FeedbackTopic
from tests.worker.transport import librdkafka
from tests.worker.transport.workers import settings_for, wait_until

CreateTopics = Callable[[int], Topics]
SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "schemas" / "feedback.schema.json").read_text())


def said(number: int, verdict: str = "good", by: str = "Ilse") -> dict[str, Any]:
    return {"resultId": f"frames:0:{number}", "verdict": verdict, "by": by, "at": "2026-01-02T03:04:05Z"}


def write(bootstrap: str, topic: str, *records: tuple[str | None, bytes | None]) -> None:
    producer = librdkafka.producer(bootstrap)
    for key, value in records:
        producer.produce(topic, value, key.encode() if key is not None else None)
    assert producer.flush(20) == 0


def by_schema(data: dict[str, Any]) -> tuple[str, bytes]:
    Draft202012Validator(SCHEMA).validate(data)
    return data["resultId"], json.dumps(data).encode()


def test_anybodys_client_writes_it_by_the_schema(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    written = [said(1), said(2, "bad"), said(1, "bad", "Ömer"), said(3)]
    write(kafka_bootstrap, topics.feedback, *map(by_schema, written))
    with closing(FeedbackTopic(settings_for(kafka_bootstrap, topics))) as topic:
        found = topic.read()
        assert [(one, word.verdict, word.by) for one, word in found.items()] == [
            ("frames:0:2", "bad", "Ilse"),
            ("frames:0:1", "bad", "Ömer"),
            ("frames:0:3", "good", "Ilse"),
        ]
        assert topic.read() == found

        write(kafka_bootstrap, topics.feedback, by_schema(said(4)), ("frames:0:3", None))
        new: list[Feedback] = []
        wait_until(lambda: bool(new.extend(topic.poll(0.1)) or new), "what is new")
        assert [word.result_id for word in new] == ["frames:0:4"]
        assert list(topic.read()) == ["frames:0:2", "frames:0:1", "frames:0:4"], "the third was taken back"


def test_the_sdk_reads_what_is_published(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    feedback = Feedback(result_id="frames:0:7", verdict="bad", by="Ömer Ç.", at="2026-01-02T03:04:05Z", product="ring")
    with closing(FeedbackTopic(settings_for(kafka_bootstrap, topics))) as topic:
        topic.publish(feedback)
        assert topic.read() == {"frames:0:7": feedback}
    (message,) = librdkafka.consume(kafka_bootstrap, topics.feedback)
    assert message.key() == b"frames:0:7"
    event = from_binary(
        KafkaMessage(dict(message.headers() or []), message.key(), message.value() or b""), JSONFormat()
    )
    assert event.get_type() == "quarterturn.feedback.v1"
    assert event.get_source() == "/quarterturn/people/%C3%96mer%20%C3%87."
    assert event.get_id() == "feedback:frames:0:7:2026-01-02T03:04:05Z"
    data = event.get_data()
    assert isinstance(data, dict)
    Draft202012Validator(SCHEMA).validate(data)
    assert (data["verdict"], data["product"]) == ("bad", "ring")


def test_what_is_no_feedback_is_said_once_and_skipped(
    kafka_bootstrap: str, create_topics: CreateTopics, caplog: pytest.LogCaptureFixture
) -> None:
    topics = create_topics(1)
    bad = [(None, b"{}"), ("frames:0:1", b"\xff"), ("frames:0:1", b"{}"), ("frames:0:2", by_schema(said(1))[1])]
    write(kafka_bootstrap, topics.feedback, *bad, by_schema(said(1)))
    with closing(FeedbackTopic(settings_for(kafka_bootstrap, topics))) as topic, caplog.at_level(logging.WARNING):
        assert list(topic.read()) == list(topic.read()) == ["frames:0:1"]
    warned = [record.message for record in caplog.records]
    assert [text.split(":")[0] for text in warned] == [f"{topics.feedback}[0]@{n}" for n in range(len(bad))]


def test_a_topic_that_is_missing_is_one_sentence(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1).model_copy(update={"feedback": "no-feedback"})
    with pytest.raises(
        ConfigError, match=r"no topic 'no-feedback'; create it with: .*--config cleanup.policy=compact$"
    ):
        FeedbackTopic(settings_for(kafka_bootstrap, topics))
