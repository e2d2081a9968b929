"""The line's topics: whether they exist, what they take, and how they are made."""

from __future__ import annotations

import base64
import contextlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from kafka import KafkaAdminClient, KafkaConsumer
from kafka.admin import ConfigResource
from kafka.errors import TopicAlreadyExistsError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka import connection
from quarterturn.worker.transport.kafka.connection import ms, reach, reaching


def create_topics(settings: KafkaSettings, partitions: int) -> None:
    """Create the topics that do not exist yet, the frames topic with `partitions`: at most so many workers share it.

    Raises:
        UnavailableError: the broker does not answer, or refuses.
    """
    with reaching(settings), _admin(settings) as admin:
        for topic in settings.topics.model_dump().values():
            count = partitions if topic == settings.topics.frames else 1
            details = {"num_partitions": count, "configs": _configs(settings, topic)}
            with contextlib.suppress(TopicAlreadyExistsError):
                admin.create_topics({topic: details}, wait_for_metadata=True)


def create_command(settings: KafkaSettings, topic: str) -> str:
    """The command that creates `topic` as `create_topics` would, the frames topic for four workers."""
    configs, count = _configs(settings, topic), 4 if topic == settings.topics.frames else 1
    where = f"--bootstrap-server {settings.bootstrap_servers}"
    return " ".join(
        [
            f"kafka-topics.sh {where} --create --topic {topic} --partitions {count}",
            *(f"--config {name}={value}" for name, value in configs.items()),
        ]
    )


def record_bytes(settings: KafkaSettings) -> int:
    """How large the record of a frame may be, with its key and headers."""
    return settings.max_frame_bytes + 2**16


def _configs(settings: KafkaSettings, topic: str) -> dict[str, str]:
    if topic == settings.topics.frames:
        # The broker unpacks compressed records and holds them to their size: no bomb comes through.
        return {"compression.type": "uncompressed", "max.message.bytes": str(record_bytes(settings))}
    # The last word under each key is kept for ever.
    is_compacted = topic in (settings.topics.feedback, settings.topics.silences)
    return {"cleanup.policy": "compact"} if is_compacted else {}


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """Which of the topics do not exist, and what the frames topic takes (None: we are not told).

    `compression` is how the broker stores its records: as a codec's name, uncompressed, or as the `producer` does.
    """

    missing: list[str]
    max_frame_bytes: int | None = None
    compression: str | None = None


def look_at_topics(settings: KafkaSettings, names: Iterable[str]) -> TopicFacts:
    """What the broker says of the topics of these names.

    Raises:
        UnavailableError: the broker does not answer, or refuses.
    """
    frames = settings.topics.frames
    with reaching(settings), _admin(settings) as admin:
        missing = _missing(admin, names)
        return TopicFacts(missing) if frames in missing else TopicFacts(missing, *_takes(admin, frames))


def need_topics(settings: KafkaSettings, topics: Iterable[str]) -> None:
    """A misspelt name is a fault, not a new topic."""
    with _admin(settings) as admin:
        missing = _missing(admin, topics)
    if missing:
        raise ConfigError(
            f"Kafka at {settings.bootstrap_servers} has no topic '{missing[0]}'; create it with: "
            f"{create_command(settings, missing[0])}"
        )


def asked_topic_id(consumer: KafkaConsumer, topic: str) -> str | None:
    """The id of `topic` as the broker says it now, see `known_topic_id`."""
    update = consumer._cluster.request_update()
    consumer._net.run(consumer._manager.wait_for, update, ms(connection.ANSWER_S))
    return known_topic_id(consumer, topic)


def known_topic_id(consumer: KafkaConsumer, topic: str) -> str | None:
    """The id of `topic` as `consumer` knows it, written as `kafka-topics.sh --describe` does.

    None from brokers before 2.8, and while there is no such topic. kafka-python keeps it where only its own code looks.
    """
    found: uuid.UUID | None = consumer._cluster.topic_id(topic)
    return base64.urlsafe_b64encode(found.bytes).decode().rstrip("=") if found and found.int else None


def _admin(settings: KafkaSettings) -> contextlib.closing[KafkaAdminClient]:
    return contextlib.closing(KafkaAdminClient(**reach(settings)))


def _missing(admin: KafkaAdminClient, topics: Iterable[str]) -> list[str]:
    described = admin.describe_topics(list(topics))
    if hidden := [one["name"] for one in described if one["error_code"] == TopicAuthorizationFailedError.errno]:
        raise TopicAuthorizationFailedError(f"no permission for the topic '{hidden[0]}'")
    return [topic["name"] for topic in described if topic["error_code"] == UnknownTopicOrPartitionError.errno]


def _takes(admin: KafkaAdminClient, topic: str) -> tuple[int | None, str | None]:
    """The largest record of `topic` and its compression, by its own settings or the broker's, where we are told."""
    asked = ConfigResource("topic", topic, ["max.message.bytes", "compression.type"])
    answer = admin.describe_configs([asked], config_filter="all")["topic"][topic]
    if not answer:
        return None, None
    return int(answer["max.message.bytes"]["value"]), answer["compression.type"]["value"]
