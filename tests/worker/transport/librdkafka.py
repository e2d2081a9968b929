"""An independent client (librdkafka), so that no test asks kafka-python about itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

_QUIET = {"log_level": 2}  # not each reconnect


def producer(bootstrap: str, **settings: object) -> Producer:
    """A producer that keeps the order even when a broker that is just starting refuses a record first.

    One request at a time does that, too, and begins half a second earlier than idempotence, which alone writes nothing
    twice when the broker falls silent: ask for it where it may.
    """
    in_order = {"max.in.flight": 1, "linger.ms": 0}
    return Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 2**26, **in_order, **_QUIET, **settings})


def produce(
    bootstrap: str, topic: str, frames: Iterable[bytes], partition: int = 0, key: bytes | None = b"cam"
) -> None:
    """Append `frames` to one partition."""
    to_broker = producer(bootstrap)
    for number, frame in enumerate(frames):
        headers = [("camera", b"top-01"), ("part_id", b"part-" + frame[:20])]
        to_broker.produce(topic, frame, key, partition=partition, headers=headers)
        if number == 0:  # what a new topic refuses came, once in thousands of times, behind the next
            assert to_broker.flush(20) == 0
    assert to_broker.flush(20) == 0


def consume(bootstrap: str, topic: str, least: int = 0) -> list[Message]:
    """Every record of `topic` that a read_committed consumer can see now, in order per partition.

    It waits for `least` of them: Kafka confirms a commit before all partitions know of it.
    """
    settings = {
        "group.id": "none",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 10,
        **_QUIET,
    }
    consumer = Consumer({"bootstrap.servers": bootstrap, "auto.offset.reset": "earliest", **settings})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    messages: list[Message] = []
    reading = set(partitions)
    while reading or len(messages) < least:
        message = consumer.poll(20)
        assert message is not None, f"{topic} does not answer, or holds {len(messages)} of {least} records"
        if message.error() is None:
            messages.append(message)
        elif message.error().code() == KafkaError._PARTITION_EOF:
            reading.discard(message.partition())
        else:
            raise AssertionError(message.error())
    consumer.close()
    return messages


def values(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    """The JSON of every visible record of `topic`."""
    return [json.loads(message.value()) for message in consume(bootstrap, topic)]


def delete_before(bootstrap: str, topic: str, offset: int) -> None:
    """Delete the records of partition 0 before `offset`, as retention does."""
    admin = AdminClient({"bootstrap.servers": bootstrap, **_QUIET})
    for deleted in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        deleted.result(timeout=20)


def configure(bootstrap: str, topic: str, **configs: object) -> None:
    """Set `configs` of a topic, dots written as underscores; returns when the broker knows them."""
    wanted = {name.replace("_", "."): str(value) for name, value in configs.items()}
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in wanted.items()]
    admin = AdminClient({"bootstrap.servers": bootstrap, **_QUIET})
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
    for altered in admin.incremental_alter_configs([resource]).values():
        altered.result(timeout=20)
    deadline = time.monotonic() + 20
    while any(config(bootstrap, topic, name) != value for name, value in wanted.items()):
        assert time.monotonic() < deadline


def topic_id(bootstrap: str, topic: str) -> str:
    """The id that Kafka gave the topic, as `kafka-topics.sh --describe` writes it."""
    admin = AdminClient({"bootstrap.servers": bootstrap, **_QUIET})
    described = admin.describe_topics(TopicCollection([topic]))[topic].result(timeout=20)
    return str(described.topic_id).translate(str.maketrans("+/", "-_"))  # Kafka's own tools write base64 for URLs


def make_anew(bootstrap: str, topic: str, partitions: int = 1) -> None:
    """Delete a topic, and create one of the same name."""
    admin = AdminClient({"bootstrap.servers": bootstrap, **_QUIET})
    before = topic_id(bootstrap, topic)
    admin.delete_topics([topic])[topic].result(timeout=20)
    deadline = time.monotonic() + 20
    while True:
        try:
            admin.create_topics([NewTopic(topic, partitions)])[topic].result(timeout=20)
        except KafkaException:  # the old one is on its way out
            if time.monotonic() > deadline:
                raise
        else:
            break
    while not _is_led(admin, topic, partitions) or topic_id(bootstrap, topic) == before:
        assert time.monotonic() < deadline


def add_partitions(bootstrap: str, topic: str, partitions: int) -> None:
    """Let the topic have so many partitions in all."""
    admin = AdminClient({"bootstrap.servers": bootstrap, **_QUIET})
    admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(timeout=20)
    deadline = time.monotonic() + 20
    while not _is_led(admin, topic, partitions):
        assert time.monotonic() < deadline


def _is_led(admin: AdminClient, topic: str, partitions: int) -> bool:
    """Whether all partitions can be written."""
    found = admin.list_topics(topic, timeout=10).topics[topic].partitions
    return len(found) == partitions and all(partition.leader >= 0 for partition in found.values())


def commit(bootstrap: str, group: str, topic: str, offset: int, metadata: str) -> None:
    """Set the position of a group without members in partition 0."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, **_QUIET})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset, metadata)], asynchronous=False)
    consumer.close()


def config(bootstrap: str, topic: str, name: str) -> str:
    """One setting of a topic."""
    admin = AdminClient({"bootstrap.servers": bootstrap, **_QUIET})
    (found,) = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]).values()
    return str(found.result(timeout=20)[name].value)
