"""Verdicts from Kafka, results of parts to Kafka."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka.coordinator.assignors.abstract import ConsumerProtocolAssignment
from kafka.coordinator.assignors.range import RangePartitionAssignor

from quarterturn.worker.messages.parts import PartData, event_of
from quarterturn.worker.messages.settled import Settled
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.base import Standing
from quarterturn.worker.transport.kafka.batches import Unreadable
from quarterturn.worker.transport.kafka.consumer import GroupConsumer, Member
from quarterturn.worker.transport.kafka.exchange import Exchange
from quarterturn.worker.transport.kafka.outgoing import Record


@dataclass(frozen=True, slots=True)
class Result:
    """A record of the verdicts topic: its header `ce_type` and its value, None where there is none."""

    partition: int
    offset: int
    kind: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Polled:
    """What a poll gave.

    Attributes:
        begun: changes where reading began anew at the committed positions: what was polled before and is not settled
            comes again.
        results: in order, for each partition.
        more: partitions that have more than was polled so far, as far as that is known.
    """

    begun: int
    results: list[Result]
    more: frozenset[int]


class PartsTransport:
    """One member of the group `<group>-parts`, of which one at a time reads all verdicts; the others stand by.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: a topic does not exist.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        settings = settings.model_copy(update={"group": f"{settings.group}-parts"})
        verdicts, self._topic = settings.topics.verdicts, settings.topics.parts
        self._consumer = GroupConsumer(settings, verdicts, (verdicts, self._topic), _OneReader)
        self._exchange = Exchange(settings, self._consumer)
        self._member: Member | None = None

    @property
    def standing(self) -> Standing:
        """See Transport."""
        return self._exchange.standing

    def poll(self, max_results: int, timeout_s: float) -> Polled:
        """Waiting results; waits at most `timeout_s` for the first, longer while the group is rebalanced.

        Raises:
            UnavailableError: the broker is gone for longer than is bridged.
        """
        self._member, records = self._exchange.poll(max_results, timeout_s)
        found = [
            Result(partition, record.offset, dict(record.headers).get("ce_type"), _value(record.value))
            for (_, partition), several in records.items()
            for record in several
        ]
        more = frozenset(partition for partition, count in self._consumer.waiting().items() if count != 0)
        return Polled(self._exchange.begun, found, more)

    def begun(self) -> Mapping[int, Settled]:
        """What was settled when reading began last, by partition; those of others are not in it."""
        return self._consumer.begun

    def deliver(self, parts: Sequence[PartData], settled: Mapping[int, Settled]) -> None:
        """Publish the results of parts, and commit what is settled now, in one transaction.

        Raises:
            RewoundError: nothing was delivered; all that is not settled comes again.
            UnavailableError: the broker is gone for longer than is bridged.
        """
        events = [event_of(part) for part in parts]
        records = [Record(self._topic, event.key, event.value, event.headers) for event in events]
        self._exchange.publish(records, self._consumer.at(settled), self._member, f"{len(parts)} results of parts")

    def close(self) -> None:
        """Release the connections; may be called twice."""
        self._exchange.close()

    def leave(self) -> None:
        """Leave the group though the thread that uses this transport is stuck in it. Any thread may call it."""
        self._exchange.leave()


class _OneReader(RangePartitionAssignor):  # type: ignore[misc]  # kafka-python has no types
    """Gives all partitions to one member: the frames of a part may lie on any."""

    name = "one-reader"

    @classmethod
    def assign(cls, cluster: Any, members: Sequence[Any]) -> dict[str, Any]:
        """See kafka-python's AbstractPartitionAssignor."""
        first = min(members, key=lambda member: member.member_id)
        none = {member.member_id: ConsumerProtocolAssignment(cls.version, [], b"") for member in members}
        found: dict[str, Any] = none | super().assign(cluster, [first])
        return found


def _value(value: bytes | None) -> bytes | None:
    return None if isinstance(value, Unreadable) else value
