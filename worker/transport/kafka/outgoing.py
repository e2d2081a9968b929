"""Records on their way out: to which partition, and in which batches."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from kafka import TopicPartition
from kafka.errors import UnknownTopicOrPartitionError
from kafka.partitioner.default import murmur2
from kafka.record.default_records import DefaultRecordBatchBuilder

_BATCH_BYTES = 2**18  # a record that is larger goes alone


class Record(NamedTuple):
    """What is published."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]]


Records = Mapping[TopicPartition, Sequence[Record]]


def partition_of(record: Record, partitions: Collection[int] | None) -> TopicPartition:
    """Where its key belongs, as Kafka's own clients see it, among the `partitions` of its topic; anywhere without one.

    Raises:
        BrokerError: the topic has none.
    """
    if not partitions:
        raise UnknownTopicOrPartitionError(record.topic)
    if record.key is None:
        return TopicPartition(record.topic, random.choice([*partitions]))  # noqa: S311 - no secret
    return TopicPartition(record.topic, sorted(partitions)[(murmur2(record.key) & 0x7FFFFFFF) % len(partitions)])


def batch_of(
    records: Sequence[Record], producer_id: int, producer_epoch: int, base_sequence: int
) -> tuple[bytearray, int]:
    """The first of `records`, as many as a batch of a transaction (KIP-98) takes, and how many they are."""
    batch = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=1,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        batch_size=_BATCH_BYTES,
    )
    taken = 0
    for record in records:
        if batch.append(taken, None, record.key, record.value, record.headers) is None:
            break
        taken += 1
    return batch.build(), taken


def by_topic(partitions: Iterable[TopicPartition]) -> dict[str, list[TopicPartition]]:
    """The partitions of each topic."""
    topics: defaultdict[str, list[TopicPartition]] = defaultdict(list)
    for one in partitions:
        topics[one.topic].append(one)
    return topics
