"""Silences on a real broker, written and read by clients of others."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from jsonschema import Draft202012Validator

from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.contract.silence import Silence
from quarterturn.worker.settings.worker import KafkaSettings, Topics
from quarterturn.worker.transport.kafka import connection, reading, silences
from quarterturn.worker.transport.kafka.silences import SilenceTopic, SilenceWatcher
from tests.worker.transport import librdkafka
from tests.worker.transport.workers import settings_for, wait_until

CreateTopics = Callable[[int], Topics]
SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "schemas" / "silence.schema.json").read_text())


def declared(camera: str | None, product: str | None = None, hour: int = 16) -> dict[str, Any]:
    said = {"starts": "2026-01-02T14:00:00Z", "ends": f"2026-01-02T{hour}:00:00Z", "reason": "the lamp is changed"}
    return said | ({"camera": camera} if camera else {}) | ({"product": product} if product else {})


def write(bootstrap: str, topic: str, key: str | None, value: bytes | dict[str, Any] | None) -> None:
    if isinstance(value, dict):
        Draft202012Validator(SCHEMA).validate(value)
        value = json.dumps(value).encode()
    producer = librdkafka.producer(bootstrap)
    producer.produce(topic, value, key)
    assert producer.flush(20) == 0


@contextmanager
def watching(settings: KafkaSettings) -> Iterator[SilenceWatcher]:
    with closing(SilenceWatcher(settings)) as watcher:
        watcher.start()
        yield watcher


def cameras(watcher: SilenceWatcher) -> list[tuple[str | None, str | None, int]]:
    return [(one.camera, one.product, one.ends.hour) for one in watcher.known()]


def test_whoever_watches_knows_the_last_word_for_each_camera_and_product(
    kafka_bootstrap: str, create_topics: CreateTopics
) -> None:
    topics = create_topics(1)
    settings = settings_for(kafka_bootstrap, topics)
    with closing(SilenceTopic(settings)) as topic:
        for said in (declared("top-01"), declared(None, "ring"), declared("top-01", hour=17)):
            topic.publish(Silence.model_validate(said))
        with watching(settings) as watcher:
            assert cameras(watcher) == [(None, "ring", 16), ("top-01", None, 17)], "known from the start"
            topic.end("top-01", None)
            topic.end("nobody", None)
            topic.publish(Silence.model_validate(declared("top-01", "ring")))
            wait_until(lambda: cameras(watcher) == [(None, "ring", 16), ("top-01", "ring", 16)], "what was said since")
            assert watcher.state == "ok"
    for message in librdkafka.consume(kafka_bootstrap, topics.silences):
        assert message.value() is None or not list(
            Draft202012Validator(SCHEMA).iter_errors(json.loads(message.value()))
        )


def test_anybodys_client_writes_it_by_the_schema_and_what_is_none_is_skipped(
    kafka_bootstrap: str, create_topics: CreateTopics, caplog: pytest.LogCaptureFixture
) -> None:
    topics = create_topics(1)
    bad = (b"\xff", b"[]", b"{}", json.dumps(declared(None)).encode())
    with watching(settings_for(kafka_bootstrap, topics)) as watcher, caplog.at_level(logging.WARNING):
        for value in bad:
            write(kafka_bootstrap, topics.silences, "a key of its own", value)
        write(kafka_bootstrap, topics.silences, None, declared("top-01"))
        wait_until(lambda: cameras(watcher) == [("top-01", None, 16)], "the silence")
    warned = [record.message for record in caplog.records if "skipped" in record.message]
    assert [text.split(":")[0] for text in warned] == [f"{topics.silences}[0]@{n}" for n in range(len(bad))]


def test_a_line_without_the_topic_has_none_until_it_is_created(
    kafka_bootstrap: str, create_topics: CreateTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silences, "_AGAIN_S", 0.1)
    topics = create_topics(1)
    topics = topics.model_copy(update={"silences": f"later-{topics.silences}"})
    with watching(settings_for(kafka_bootstrap, topics)) as watcher:
        assert (cameras(watcher), watcher.state) == ([], "ok")
        admin = AdminClient({"bootstrap.servers": kafka_bootstrap, "log_level": 2})
        admin.create_topics([NewTopic(topics.silences, 1)])[topics.silences].result(20)
        write(kafka_bootstrap, topics.silences, "a", declared("top-01"))
        wait_until(lambda: cameras(watcher) == [("top-01", None, 16)], "the silence")


def test_those_of_a_topic_that_was_made_anew_are_forgotten(
    kafka_bootstrap: str, create_topics: CreateTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silences, "_AGAIN_S", 0.1)
    monkeypatch.setattr(reading, "_LOOK_S", 0.5)
    topics = create_topics(1)
    write(kafka_bootstrap, topics.silences, "a", declared("top-01"))
    with watching(settings_for(kafka_bootstrap, topics)) as watcher:
        assert cameras(watcher) == [("top-01", None, 16)]
        librdkafka.make_anew(kafka_bootstrap, topics.silences)
        write(kafka_bootstrap, topics.silences, "b", declared("side-01"))
        wait_until(lambda: cameras(watcher) == [("side-01", None, 16)], "the new topic")
        assert watcher.state == "ok"


def test_a_broker_that_is_away_is_said_and_what_is_known_stays(
    kafka_bootstrap: str, create_topics: CreateTopics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(silences, "_AGAIN_S", 0.1)
    topics = create_topics(1)
    write(kafka_bootstrap, topics.silences, "a", declared("top-01"))
    away = threading.Event()

    class Shaky(SilenceTopic):
        def poll(self, timeout_s: float) -> list[Silence]:
            if away.is_set():
                raise UnavailableError("Kafka is away")
            return super().poll(timeout_s)

    monkeypatch.setattr(silences, "SilenceTopic", Shaky)
    with watching(settings_for(kafka_bootstrap, topics)) as watcher, caplog.at_level(logging.WARNING):
        away.set()
        wait_until(lambda: watcher.state == "Kafka is away", "the fault")
        assert cameras(watcher) == [("top-01", None, 16)]
        away.clear()
        write(kafka_bootstrap, topics.silences, "b", declared("side-01"))
        wait_until(lambda: watcher.state == "ok" and len(watcher.known()) == 2, "the broker's return")


def test_a_broker_that_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_S", 0.5)
    nowhere = settings_for("localhost:1", Topics())
    with watching(nowhere) as watcher:
        assert "localhost:1" in watcher.state
        assert watcher.known() == ()
