"""Frames from Kafka, outcomes to Kafka: the only file that imports kafka-python.

Verdicts, alerts, dead letters and the consumed positions of a batch commit in one transaction (KIP-98, KIP-447).
Two rules keep it exactly once whatever happens to the consumer group; docs/kafka.md argues why they suffice:

1. A batch is committed in the name of the group member that polled it: after a rebalance the broker refuses it.
2. Every generation of the group, and every second try, starts at the committed positions.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import (
    AuthorizationError,
    KafkaError,
    KafkaTimeoutError,
    TopicAlreadyExistsError,
    UnsupportedVersionError,
)
from kafka.producer.future import FutureRecordMetadata
from kafka.structs import ConsumerGroupMetadata

from worker.config import KafkaSettings
from worker.contract.errors import ConfigError, UnavailableError
from worker.events import Frame, Outcome, Position, events_of
from worker.transport.base import RewoundError
from worker.transport.batch import check_delivery

log = logging.getLogger(__name__)
logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it reports each reconnect as an error; we say it once

_ANSWER_S = 10.0  # how long a request or a transaction may take before it counts as failed
_ANSWER_MS = int(_ANSWER_S * 1000)
_PROBE_S = 5.0  # after so long without frames the broker is asked whether it is still there
_HEARTBEAT_S = 1.0  # also how soon a member learns of a rebalance
_FETCH_BYTES = 16 * 2**20  # buffered ahead; a larger frame is fetched alone (KIP-74)
_WINDOW = 32  # frames of a camera on their way

_CLIENT: dict[str, Any] = {
    "client_id": "quarterturn",
    "request_timeout_ms": _ANSWER_MS,
    "reconnect_backoff_max_ms": 1000,
    "allow_auto_create_topics": False,  # a misspelt name is a fault, not a topic
    "metrics_enabled": False,
}
_CONSUMER: dict[str, Any] = {
    **_CLIENT,
    "enable_auto_commit": False,
    "isolation_level": "read_committed",
    "auto_offset_reset": "earliest",  # after retention took frames away; `start` is ours to apply
    # No state is kept per partition, so the assignor that needs one round of rebalancing is the best.
    "partition_assignment_strategy": [RangePartitionAssignor],
    "fetch_max_bytes": _FETCH_BYTES,
    "max_partition_fetch_bytes": _FETCH_BYTES // 2,
    "fetch_max_wait_ms": 20,  # while a fetch waits for an idle partition, kafka-python asks for no other
}
_PRODUCER: dict[str, Any] = {
    **_CLIENT,
    "batch_size": 2**18,
    "max_block_ms": _ANSWER_MS,
    "delivery_timeout_ms": _ANSWER_MS,
    "retry_backoff_ms": 5,  # a transaction waits so long for the markers of the one before
}

T = TypeVar("T")
Records = dict[TopicPartition, list[ConsumerRecord]]


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one poll gave: the positions, and the group member that we were then."""

    member: ConsumerGroupMetadata
    positions: list[Position]


class KafkaTransport:
    """One member of a consumer group, and the producer that answers for it.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: a topic does not exist.
    """

    exhausted = False

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._transactional_id = f"{settings.group}-{uuid.uuid4()}"
        self._undelivered: deque[_Batch] = deque()
        self._member: ConsumerGroupMetadata | None = None
        self._last_answer_s = time.monotonic()
        self._trouble_since_s: float | None = None
        self._producer: KafkaProducer | None = None
        self._closed = False
        self._consumer = _connect(
            partial(KafkaConsumer, settings.topics.frames),
            settings.bootstrap_servers,
            group_id=settings.group,
            session_timeout_ms=int(settings.session_timeout_s * 1000),
            heartbeat_interval_ms=int(min(_HEARTBEAT_S, settings.session_timeout_s / 3) * 1000),
            receive_message_max_bytes=2 * _FETCH_BYTES + settings.max_frame_bytes,
            **_CONSUMER,
        )
        try:
            for topic in settings.topics.model_dump().values():
                _need_topic(self._consumer.partitions_for_topic(topic), topic, settings.bootstrap_servers)
        except ConfigError:
            self.close()
            raise

    def poll(self, max_frames: int, timeout_s: float) -> list[Frame]:
        """See Transport; the first polls return nothing while the consumer group forms."""
        try:
            records = self._consumer.poll(int(timeout_s * 1000), max_records=max_frames)
            member = self._consumer.group_metadata()._replace(state="")
            if member != self._member:
                self._begin_generation(member, records)
                records = {}
            if not records:
                self._probe()
                return []
        except KafkaError as error:
            self._failed(error)
            return []
        self._last_answer_s = time.monotonic()
        frames = [_frame(record) for partition in records.values() for record in partition]
        self._undelivered.append(_Batch(member, [frame.position for frame in frames]))
        return frames

    def deliver(self, outcomes: Sequence[Outcome]) -> None:
        """See Transport. With `at_least_once`, a RewoundError may come after some outcomes were published."""
        batch = self._undelivered.popleft()
        check_delivery(outcomes, batch.positions)
        if batch.member != self._member:
            self._rewind()
            raise RewoundError(f"{batch.positions[0]}: the consumer group was rebalanced")
        try:
            self._publish(outcomes, batch.member)
        except KafkaError as error:
            self._retire_producer(wait_s=0)
            self._rewind()
            self._failed(error)
            raise RewoundError(f"{batch.positions[0]}: not delivered ({_text(error)})") from error
        self._answered()

    def close(self) -> None:
        """See Transport; leaves the consumer group, so that the others take over at once."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(KafkaError):
            self._consumer.close(autocommit=False, timeout_ms=2000)
        self._retire_producer(wait_s=2)

    def _begin_generation(self, member: ConsumerGroupMetadata, records: Records) -> None:
        """Continue as `member`, at the committed positions; `records` came before these were known."""
        if member.generation_id < 0:
            return  # not a member any more; the next poll joins again
        for partition, polled in records.items():
            self._consumer.seek(partition, polled[0].offset)
        if self._producer is None:
            self._producer = self._new_producer()
        first: dict[TopicPartition, OffsetAndMetadata] = {}
        for partition in self._consumer.assignment():
            committed = self._consumer.committed(partition, timeout_ms=_ANSWER_MS)
            if committed is not None:
                self._consumer.seek(partition, committed)
            else:
                first[partition] = OffsetAndMetadata(self._start_of(partition), "", -1)
        if first:  # so that what arrives from now on is never skipped, whoever comes to own it
            self._consumer.commit(first, timeout_ms=_ANSWER_MS)
        self._member = member
        assigned = sorted(f"{topic}[{partition}]" for topic, partition in self._consumer.assignment())
        log.info("group %s: generation %d, %s", member.group_id, member.generation_id, ", ".join(assigned) or "idle")

    def _new_producer(self) -> KafkaProducer:
        if self._settings.delivery == "at_least_once":
            return KafkaProducer(bootstrap_servers=self._settings.bootstrap_servers, **_PRODUCER)
        producer = KafkaProducer(
            bootstrap_servers=self._settings.bootstrap_servers,
            transactional_id=self._transactional_id,
            transaction_timeout_ms=_ANSWER_MS,  # a worker that dies keeps readers waiting for so long at most
            **_PRODUCER,
        )
        try:
            producer.init_transactions()  # the same id: ends a transaction that a predecessor left open
        except KafkaError:
            self._producer = producer
            self._retire_producer(wait_s=0)
            raise
        return producer

    def _start_of(self, partition: TopicPartition) -> int:
        """Where a group without positions begins."""
        find = self._consumer.beginning_offsets if self._settings.start == "earliest" else self._consumer.end_offsets
        offset: int = find([partition], timeout_ms=_ANSWER_MS)[partition]
        self._consumer.seek(partition, offset)
        return offset

    def _publish(self, outcomes: Sequence[Outcome], member: ConsumerGroupMetadata) -> None:
        ends = {TopicPartition(o.position.topic, o.position.partition): o.position.offset + 1 for o in outcomes}
        done = {partition: OffsetAndMetadata(end, "", -1) for partition, end in ends.items()}
        assert self._producer is not None  # there since the generation began
        if self._settings.delivery == "exactly_once":
            _within(_ANSWER_S, partial(self._transact, self._producer, outcomes, done, member))
        else:
            _confirm(self._send(self._producer, outcomes))
            self._consumer.commit(done, timeout_ms=_ANSWER_MS)

    def _transact(
        self,
        producer: KafkaProducer,
        outcomes: Sequence[Outcome],
        done: Mapping[TopicPartition, OffsetAndMetadata],
        member: ConsumerGroupMetadata,
    ) -> None:
        producer.begin_transaction()
        sent = self._send(producer, outcomes)
        producer.send_offsets_to_transaction(done, member)
        _confirm(sent)  # kafka-python would commit without a record that it gave up on
        producer.commit_transaction()

    def _send(self, producer: KafkaProducer, outcomes: Sequence[Outcome]) -> list[FutureRecordMetadata]:
        topics = self._settings.topics
        topic_of = {"verdict": topics.verdicts, "alert": topics.alerts, "dead_letter": topics.dead_letters}
        return [
            producer.send(topic_of[event.kind], event.value, event.key, list(event.headers))
            for outcome in outcomes
            for event in events_of(outcome)
        ]

    def _rewind(self) -> None:
        """Forget what was polled; the next poll starts as a new generation does, at the committed positions."""
        self._undelivered.clear()
        self._member = None

    def _retire_producer(self, wait_s: float) -> None:
        """Close the producer on a thread of its own: it may hold records that the broker will not take for long."""
        producer, self._producer = self._producer, None
        if producer is not None:
            closing = threading.Thread(target=_close, args=(producer,), daemon=True)
            closing.start()
            closing.join(wait_s)

    def _probe(self) -> None:
        """After a while without frames, find out whether the broker is still there."""
        if time.monotonic() - self._last_answer_s > _PROBE_S:
            self._consumer.end_offsets([TopicPartition(self._settings.topics.frames, 0)], timeout_ms=1000)
            self._answered()

    def _answered(self) -> None:
        now_s = time.monotonic()
        if self._trouble_since_s is not None:
            log.info("Kafka works again after %.1f s", now_s - self._trouble_since_s)
        self._trouble_since_s = None
        self._last_answer_s = now_s

    def _failed(self, error: KafkaError) -> None:
        """Bridge a fault for as long as the settings allow."""
        now_s = time.monotonic()
        servers, patience_s = self._settings.bootstrap_servers, self._settings.give_up_after_s
        if self._trouble_since_s is None:
            self._trouble_since_s = now_s
            log.warning("Kafka at %s: %s; trying again for %g s", servers, _text(error), patience_s)
        is_lasting = isinstance(error, (AuthorizationError, UnsupportedVersionError))
        if is_lasting or now_s - self._trouble_since_s > patience_s:
            raise UnavailableError(
                f"Kafka at {servers}: {_text(error)} (for {now_s - self._trouble_since_s:.0f} s); check the broker, "
                "its log and the permissions of this client"
            ) from error


class FramePublisher:
    """The camera's side of the line: publishes frames, in order per key.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: the topic does not exist.
    """

    def __init__(self, bootstrap_servers: str, topic: str, max_frame_bytes: int) -> None:
        self._bootstrap_servers, self._topic = bootstrap_servers, topic
        self._sent: deque[FutureRecordMetadata] = deque()
        self._producer = _connect(
            KafkaProducer, bootstrap_servers, max_request_size=max_frame_bytes + 2**16, **_PRODUCER
        )

    def publish(self, key: bytes, headers: Mapping[str, str], data: bytes) -> None:
        """Send one frame without waiting for it, unless too many are on their way.

        Raises:
            UnavailableError: this frame, or one sent before it, was not taken.
        """
        encoded = [(name, value.encode("utf-8")) for name, value in headers.items()]
        with self._faults():
            self._sent.append(self._producer.send(self._topic, data, key, encoded))
            while len(self._sent) > _WINDOW:
                _confirm([self._sent.popleft()])

    def flush(self) -> None:
        """Wait until every frame is stored.

        Raises:
            UnavailableError: one was not taken.
        """
        with self._faults():
            _confirm(self._sent)
        self._sent.clear()

    def close(self) -> None:
        """Release the connection; may be called twice. Frames that were not flushed may be lost."""
        _close(self._producer)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            raise UnavailableError(
                f"Kafka at {self._bootstrap_servers}: a frame was not stored in '{self._topic}' ({_text(error)}); "
                "check the broker, and its message.max.bytes where frames are large"
            ) from error


class ResultReader:
    """Reads the committed verdicts and dead letters of a line from their beginning, outside of any group.

    Raises:
        UnavailableError: the broker does not answer.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._consumer = _connect(KafkaConsumer, settings.bootstrap_servers, group_id=None, **_CONSUMER)
        topics = (settings.topics.verdicts, settings.topics.dead_letters)
        self._consumer.assign(
            [TopicPartition(topic, p) for topic in topics for p in self._consumer.partitions_for_topic(topic) or ()]
        )

    def poll(self, timeout_s: float) -> list[dict[str, Any]]:
        """The data of the next results; waits at most `timeout_s` for the first."""
        polled = self._consumer.poll(int(timeout_s * 1000)).values()
        return [json.loads(record.value) for records in polled for record in records]

    def close(self) -> None:
        """Release the connection; may be called twice."""
        self._consumer.close()


def create_topics(settings: KafkaSettings, partitions: int) -> None:
    """Create the topics that do not exist yet, the frames topic with `partitions`: at most so many workers share it.

    Raises:
        UnavailableError: the broker does not answer, or refuses.
    """
    admin = _connect(KafkaAdminClient, settings.bootstrap_servers)
    try:
        for topic in settings.topics.model_dump().values():
            count = partitions if topic == settings.topics.frames else 1
            with contextlib.suppress(TopicAlreadyExistsError):
                admin.create_topics({topic: {"num_partitions": count}}, wait_for_metadata=True)
    except KafkaError as error:
        raise UnavailableError(
            f"Kafka at {settings.bootstrap_servers}: no topic was created ({_text(error)})"
        ) from error
    finally:
        admin.close()


def _connect(client: Callable[..., T], bootstrap_servers: str, **settings: Any) -> T:
    try:
        return client(bootstrap_servers=bootstrap_servers, bootstrap_timeout_ms=_ANSWER_MS, **settings)
    except (KafkaError, ValueError) as error:
        raise UnavailableError(
            f"Kafka at {bootstrap_servers} cannot be reached ({_text(error)}); "
            "start the broker or correct 'bootstrap_servers'"
        ) from error


def _need_topic(partitions: set[int] | None, topic: str, bootstrap_servers: str) -> None:
    if not partitions:
        raise ConfigError(
            f"Kafka at {bootstrap_servers} has no topic '{topic}'; create it with: "
            f"kafka-topics.sh --bootstrap-server {bootstrap_servers} --create --topic {topic} --partitions 4"
        )


def _frame(record: ConsumerRecord) -> Frame:
    headers = {name: value for name, value in record.headers if value is not None}
    return Frame(Position(record.topic, record.partition, record.offset), record.key, headers, record.value or b"")


def _within(timeout_s: float, call: Callable[[], None]) -> None:
    """Run `call` for at most `timeout_s`: kafka-python waits for a transaction without limit while a broker is gone.

    Raises:
        KafkaTimeoutError: it takes longer; its thread goes on waiting, and ends with the process.
    """
    result: concurrent.futures.Future[None] = concurrent.futures.Future()

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            result.set_exception(error)
        else:
            result.set_result(None)

    threading.Thread(target=run, daemon=True).start()
    try:
        result.result(timeout_s)
    except concurrent.futures.TimeoutError:
        raise KafkaTimeoutError(f"no answer within {timeout_s:g} s") from None


def _confirm(sent: Iterable[FutureRecordMetadata]) -> None:
    for record in sent:
        record.get(timeout=_ANSWER_S)


def _close(producer: KafkaProducer) -> None:
    """Close `producer`, however long it takes: `close` refuses as long as records wait for an answer."""
    while True:
        with contextlib.suppress(KafkaError):
            producer.close(timeout=_ANSWER_S)
            return


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
