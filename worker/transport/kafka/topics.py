"""The line's topics: whether they exist, what they take, and how they are made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource
from kafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka.connection import reach, reaching


def create_topics(settings: KafkaSettings, partitions: int) -> None:
    """Create the topics that do not exist yet, the frames topic with `partitions`: at most so many workers share it.

    Raises:
        UnavailableError: the broker does not answer, or refuses.
    """
    with reaching(settings), _admin(settings) as admin:
        for topic in settings.topics.model_dump().values():
            details: dict[str, Any] = {"num_partitions": 1}
            if topic == settings.topics.frames:
                # The broker unpacks compressed records and holds them to their size: no bomb comes through.
                details = {"num_partitions": partitions, "configs": {"compression.type": "uncompressed"}}
            with contextlib.suppress(TopicAlreadyExistsError):
                admin.create_topics({topic: details}, wait_for_metadata=True)


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """Which of the line's topics do not exist, and the largest record that the frames topic takes (None: not told)."""

    missing: list[str]
    max_frame_bytes: int | None


def look_at_topics(settings: KafkaSettings) -> TopicFacts:
    """What the broker says of the line's topics.

    Raises:
        UnavailableError: the broker does not answer, or refuses.
    """
    topics = settings.topics
    with reaching(settings), _admin(settings) as admin:
        missing = _missing(admin, topics.model_dump().values())
        return TopicFacts(missing, None if topics.frames in missing else _max_message_bytes(admin, topics.frames))


def need_topics(settings: KafkaSettings, topics: Iterable[str]) -> None:
    """A misspelt name is a fault, not a new topic."""
    with _admin(settings) as admin:
        missing = _missing(admin, topics)
    if missing:
        servers = settings.bootstrap_servers
        raise ConfigError(
            f"Kafka at {servers} has no topic '{missing[0]}'; create it with: kafka-topics.sh "
            f"--bootstrap-server {servers} --create --topic {missing[0]} --partitions 4"
        )


def _admin(settings: KafkaSettings) -> contextlib.closing[KafkaAdminClient]:
    return contextlib.closing(KafkaAdminClient(**reach(settings)))


def _missing(admin: KafkaAdminClient, topics: Iterable[str]) -> list[str]:
    described = admin.describe_topics(list(topics))
    return [topic["name"] for topic in described if topic["error_code"] == UnknownTopicOrPartitionError.errno]


def _max_message_bytes(admin: KafkaAdminClient, topic: str) -> int | None:
    """The largest record of `topic`, by its own settings or the broker's; None where we are not told."""
    asked = ConfigResource("topic", topic, ["max.message.bytes"])
    answer = admin.describe_configs([asked], config_filter="all")["topic"][topic]
    return int(answer["max.message.bytes"]["value"]) if answer else None
