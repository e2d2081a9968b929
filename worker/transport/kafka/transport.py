"""Frames from Kafka, outcomes to Kafka.

Verdicts, alerts, dead letters and the consumed positions of a batch commit in one transaction (KIP-98, KIP-447), see
exchange.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.messages.events import AlarmKind, Outcome, events_of
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.settings.worker import KafkaSettings, Topics
from quarterturn.worker.transport.base import RewoundError, Standing
from quarterturn.worker.transport.batch import check_delivery
from quarterturn.worker.transport.kafka.consumer import GroupConsumer, Member
from quarterturn.worker.transport.kafka.exchange import Exchange
from quarterturn.worker.transport.kafka.outgoing import Record


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one poll gave: the positions, and the group member that we were then."""

    member: Member | None
    positions: list[Position]


class KafkaTransport:
    """One member of a consumer group, and the producer that answers for it. Never exhausted.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: a topic does not exist.
    """

    exhausted = False

    def __init__(self, settings: KafkaSettings) -> None:
        topics = settings.topics
        self._topics = _topics_of_events(topics)
        self._consumer = GroupConsumer(settings, topics.frames, topics.of_a_worker)
        self._exchange = Exchange(settings, self._consumer)
        self._undelivered: deque[_Batch] = deque()

    @property
    def joined(self) -> bool:
        """Whether it has become a member of the group, with partitions or idle."""
        return self._exchange.joined

    @property
    def standing(self) -> Standing:
        """See Transport."""
        return self._exchange.standing

    def poll(self, max_frames: int, timeout_s: float) -> list[Frame]:
        """See Transport; the first polls return nothing while the consumer group forms."""
        member, records = self._exchange.poll(max_frames, timeout_s)
        frames = self._consumer.frames(records)
        if frames:
            self._undelivered.append(_Batch(member, [frame.position for frame in frames]))
        return frames

    def deliver(self, outcomes: Sequence[Outcome]) -> None:
        """See Transport. With `at_least_once`, a RewoundError may come after some outcomes were published."""
        batch = self._undelivered[0]
        check_delivery(outcomes, batch.positions)
        events = [event for outcome in outcomes for event in events_of(outcome)]
        records = [Record(self._topics[event.kind], event.key, event.value, event.headers) for event in events]
        try:
            self._exchange.publish(records, self._consumer.behind(outcomes), batch.member, str(batch.positions[0]))
        except (RewoundError, UnavailableError):
            self._undelivered.clear()
            raise
        self._undelivered.popleft()

    def close(self) -> None:
        """See Transport."""
        self._exchange.close()

    def leave(self) -> None:
        """Leave the group though the thread that uses this transport is stuck in it. Any thread may call it."""
        self._exchange.leave()


def _topics_of_events(topics: Topics) -> dict[str, str]:
    return {
        "verdict": topics.verdicts,
        "late": topics.verdicts,
        "dead_letter": topics.dead_letters,
        **dict.fromkeys(("alert", *get_args(AlarmKind)), topics.alerts),
    }
