"""Frames from Kafka, outcomes to Kafka.

Verdicts, alerts, dead letters and the consumed positions of a batch commit in one transaction (KIP-98, KIP-447).
Two rules keep it exactly once whatever happens to the consumer group; docs/kafka.md argues why they suffice:

1. A batch is committed in the name of the group member that polled it: after a rebalance the broker refuses it.
2. Every generation of the group, and every second try, starts at the committed positions.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from quarterturn.worker.messages.events import Outcome
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.base import RewoundError, Standing
from quarterturn.worker.transport.batch import check_delivery
from quarterturn.worker.transport.kafka.connection import BrokerError, StaleMemberError, text
from quarterturn.worker.transport.kafka.consumer import GroupConsumer, Member, away_s
from quarterturn.worker.transport.kafka.contact import Contact
from quarterturn.worker.transport.kafka.leaving import leave_group
from quarterturn.worker.transport.kafka.producer import Outbox

log = logging.getLogger(__name__)

_PROBE_S = 5.0  # after so long without frames the broker is asked whether it is still there
_LAG_S = 1.0  # how old the lag that is shown may be


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one poll gave: the positions, and the group member that we were then."""

    member: Member
    positions: list[Position]


class KafkaTransport:
    """One member of a consumer group, and the producer that answers for it. Never exhausted.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: a topic does not exist.
    """

    exhausted = False

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        exactly_once = settings.delivery == "exactly_once"
        self._transactional_id = f"{settings.group}-{uuid.uuid4()}" if exactly_once else None
        self._consumer = GroupConsumer(settings)
        self._outbox: Outbox | None = None
        self._member: Member | None = None
        self._undelivered: deque[_Batch] = deque()
        self._contact = Contact(settings, away_s(settings))
        self._lag: dict[str, int] = {}
        self._lag_s = 0.0
        self._closed = False

    @property
    def joined(self) -> bool:
        """Whether it has become a member of the group, with partitions or idle."""
        return self._member is not None

    @property
    def standing(self) -> Standing:
        """See Transport."""
        return Standing("Kafka", self._contact.state, self._contact.assigned, self._lag)

    def poll(self, max_frames: int, timeout_s: float) -> list[Frame]:
        """See Transport; the first polls return nothing while the consumer group forms."""
        self._contact.polled_s = time.monotonic()
        try:
            member, frames = self._consumer.poll(max_frames, timeout_s)
            if member != self._member:
                self._begin_generation(member)
                frames = []  # they will come again, now from the committed positions
            if not frames:
                self._probe()
                return []
        except BrokerError as error:
            self._contact.failed(error)
            return []
        finally:
            self._look_at_lag()
        self._contact.answered_s = time.monotonic()
        self._undelivered.append(_Batch(member, [frame.position for frame in frames]))
        return frames

    def deliver(self, outcomes: Sequence[Outcome]) -> None:
        """See Transport. With `at_least_once`, a RewoundError may come after some outcomes were published."""
        batch = self._undelivered[0]
        check_delivery(outcomes, batch.positions)
        try:
            with self._contact.asking():
                self._publish(outcomes, batch.member)
        except BrokerError as error:
            self._rewind()
            if isinstance(error, StaleMemberError):
                raise RewoundError(f"{batch.positions[0]}: the consumer group was rebalanced") from error
            self._contact.failed(error)
            raise RewoundError(f"{batch.positions[0]}: not delivered ({text(error)})") from error
        self._undelivered.popleft()
        self._contact.answered()

    def close(self) -> None:
        """See Transport."""
        if self._closed:
            return
        self._closed = True
        self._contact.close()
        self._consumer.close()
        if self._outbox is not None:
            self._outbox.close(wait_s=2)

    def leave(self) -> None:
        """Leave the group though the thread that uses this transport is stuck in it. Any thread may call it."""
        if member_id := self._consumer.member_id:
            leave_group(self._settings, member_id)

    def _begin_generation(self, member: Member) -> None:
        """Continue as `member`, at the committed positions."""
        if member.generation < 0:
            self._contact.out()
            return  # we fell out of the group; the next poll joins it again
        with self._contact.asking():
            if self._outbox is None:
                self._outbox = Outbox(self._settings, self._transactional_id)
            partitions = self._consumer.go_to_committed()
        self._member = member
        self._contact.joined(len(partitions))
        log.info("group %s: generation %d, %s", member.group, member.generation, ", ".join(partitions) or "idle")

    def _publish(self, outcomes: Sequence[Outcome], member: Member) -> None:
        if self._outbox is None or member != self._member:
            raise StaleMemberError
        positions = self._consumer.behind(outcomes)
        if self._transactional_id is not None:
            self._outbox.transact(outcomes, positions, member)
        else:
            self._outbox.send(outcomes)
            self._consumer.commit(positions)
        self._consumer.done(positions)

    def _rewind(self) -> None:
        """Forget what was polled and what was sent; the next poll begins as a new generation does."""
        self._undelivered.clear()
        self._member = None
        self._contact.out()
        if self._outbox is not None:
            self._outbox.close(wait_s=0)
            self._outbox = None

    def _probe(self) -> None:
        """After a while without frames, find out whether the broker is still there."""
        if time.monotonic() - self._contact.answered_s > _PROBE_S:
            self._consumer.probe()
            self._contact.answered()

    def _look_at_lag(self) -> None:
        if (now_s := time.monotonic()) - self._lag_s > _LAG_S:
            self._lag, self._lag_s = self._consumer.lag() if self._contact.assigned else {}, now_s
