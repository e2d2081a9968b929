"""What is read in a group, and what comes of it: published together with the positions, or not at all.

Two rules keep it exactly once whatever happens to the consumer group; docs/kafka.md argues why they suffice:

1. What was polled is committed in the name of the group member that polled it: after a rebalance the broker refuses it.
2. Every generation of the group starts at the committed positions; so do a second try, and what follows a failed poll.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence

from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.base import RewoundError, Standing
from quarterturn.worker.transport.kafka.checksums import warn_if_slow
from quarterturn.worker.transport.kafka.connection import BrokerError, StaleMemberError, text
from quarterturn.worker.transport.kafka.consumer import GroupConsumer, Member, Records, away_s
from quarterturn.worker.transport.kafka.contact import Contact
from quarterturn.worker.transport.kafka.leaving import leave_group
from quarterturn.worker.transport.kafka.outgoing import Record
from quarterturn.worker.transport.kafka.positions import Positions
from quarterturn.worker.transport.kafka.producer import Outbox

log = logging.getLogger(__name__)

_PROBE_S = 5.0  # after so long without records the broker is asked whether it is still there
_LAG_S = 1.0  # how old the lag that is shown may be


class Exchange:
    """One member of a consumer group, `consumer`, and the producer that answers for it.

    Attributes:
        begun: how often reading began at the committed positions. What was polled before and is not published by then
            comes again.

    Raises:
        UnavailableError: the broker does not answer.
    """

    def __init__(self, settings: KafkaSettings, consumer: GroupConsumer) -> None:
        warn_if_slow()
        self.begun = 0
        self._settings, self._consumer = settings, consumer
        exactly_once = settings.delivery == "exactly_once"
        self._transactional_id = f"{settings.group}-{uuid.uuid4()}" if exactly_once else None
        self._outbox: Outbox | None = None
        self._member: Member | None = None
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

    def poll(self, max_records: int, timeout_s: float) -> tuple[Member | None, Records]:
        """Waiting records, and the member in whose name they are given; none while the consumer group forms."""
        self._contact.polled_s = time.monotonic()
        try:
            member, records = self._poll(max_records, timeout_s)
            if member != self._member:
                if records:
                    records, self._member = {}, None  # they will come again, now from the committed positions
                self._begin_generation(member)
            if not records:
                self._probe()
                return self._member, {}
        except BrokerError as error:
            self._contact.failed(error)
            return self._member, {}
        finally:
            self._look_at_lag()
        self._contact.answered_s = time.monotonic()
        return member, records

    def publish(self, records: Sequence[Record], positions: Positions, member: Member | None, what: str) -> None:
        """Publish `records`, and commit `positions`; `what` names them in errors.

        Raises:
            RewoundError: what was polled will come again; with `at_least_once` some may be published.
            UnavailableError: the broker does not answer for too long.
        """
        try:
            with self._contact.asking():
                self._publish(records, positions, member)
        except BrokerError as error:
            self._rewind()
            if isinstance(error, StaleMemberError):
                raise RewoundError(f"{what}: the consumer group was rebalanced") from error
            self._contact.failed(error)
            raise RewoundError(f"{what}: not delivered ({text(error)})") from error
        self._contact.answered()

    def close(self) -> None:
        """Release the connections; may be called twice."""
        if self._closed:
            return
        self._closed = True
        self._contact.close()
        self._consumer.close()
        if self._outbox is not None:
            self._outbox.close(wait_s=2)

    def leave(self) -> None:
        """Leave the group though the thread that uses this exchange is stuck in it. Any thread may call it."""
        if member_id := self._consumer.member_id:
            leave_group(self._settings, member_id)

    def _poll(self, max_records: int, timeout_s: float) -> tuple[Member, Records]:
        try:
            return self._consumer.poll(max_records, timeout_s)
        except BrokerError:
            self._member = None  # kafka-python may have gone on beyond records that it took out and did not give
            raise

    def _begin_generation(self, member: Member) -> None:
        """Continue as `member`, at the committed positions."""
        if member.generation < 0:
            self._contact.out()
            return  # we fell out of the group; the next poll joins it again
        self._member = None  # until we are there: what was polled before comes again
        with self._contact.asking():
            if self._outbox is None:
                self._outbox = Outbox(self._settings, self._transactional_id)
            partitions = self._consumer.go_to_committed()
        self._member = member
        self.begun += 1
        self._contact.joined(len(partitions))
        log.info("group %s: generation %d, %s", member.group, member.generation, ", ".join(partitions) or "idle")

    def _publish(self, records: Sequence[Record], positions: Positions, member: Member | None) -> None:
        if self._outbox is None or member is None or member != self._member:
            raise StaleMemberError
        if records and self._transactional_id is not None:
            self._outbox.transact(records, positions, member)
        else:
            if records:
                self._outbox.send(records)
            self._consumer.commit(positions, member)
        self._consumer.done(positions)

    def _rewind(self) -> None:
        """Forget what was polled and what was sent; the next poll begins as a new generation does."""
        self._member = None
        self._contact.out()
        if self._outbox is not None:
            self._outbox.close(wait_s=0)
            self._outbox = None

    def _probe(self) -> None:
        """After a while without records, find out whether the broker is still there."""
        if time.monotonic() - self._contact.answered_s > _PROBE_S:
            self._consumer.probe()
            self._contact.answered()

    def _look_at_lag(self) -> None:
        if (now_s := time.monotonic()) - self._lag_s > _LAG_S:
            self._lag, self._lag_s = self._consumer.lag() if self._contact.assigned else {}, now_s
