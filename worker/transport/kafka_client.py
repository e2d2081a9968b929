"""kafka-python behind a few methods: the only file that imports it. docs/kafka.md says what the settings are for."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource
from kafka.consumer.fetcher import ConsumerRecord
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import (
    AuthorizationError,
    CommitFailedError,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    KafkaError,
    KafkaTimeoutError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    UnsupportedCodecError,
    UnsupportedVersionError,
)
from kafka.net.sasl.oauth import AbstractTokenProvider
from kafka.producer.future import FutureRecordMetadata
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.util import decode_varint
from kafka.structs import ConsumerGroupMetadata, MemberState

from worker.config import KafkaSettings
from worker.contract.errors import ConfigError, UnavailableError
from worker.events import Outcome, events_of
from worker.frames import UNREADABLE, Frame, Position
from worker.security import Secret

log = logging.getLogger(__name__)
logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it reports each reconnect as an error; the transport does once

BrokerError = KafkaError
"""Whatever the broker, or the way to it, does not do."""

StaleMemberError = CommitFailedError
"""The group has been rebalanced since the frames were polled: the commit was refused."""

LASTING_ERRORS = (
    AuthorizationError,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    UnsupportedCodecError,
    UnsupportedVersionError,
)
"""Broker errors that no waiting cures."""

ANSWER_S = 10.0
"""How long a request or a transaction may take before it counts as failed."""

_HEARTBEAT_S = 1.0  # also how soon a member learns of a rebalance
_REBALANCE_S = 5.0  # how long a poll may stay with a rebalance,
_STAY_S = 0.2  # in steps of so long
_FETCH_BYTES = 16 * 2**20  # buffered ahead; a larger frame is fetched alone (KIP-74)
_ANY_SIZE = 2**31 - 1  # the topic's max.message.bytes is the limit; with a lower one here the worker would get stuck
_WINDOW = 32  # frames of a camera on their way


@dataclass(frozen=True, slots=True)
class Member:
    """Who we are in the consumer group, and in which of its generations; a negative one: not a member."""

    group: str
    generation: int
    id: str


class GroupConsumer:
    """One member of a consumer group, reading the frames. All methods raise BrokerError.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: a topic does not exist.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._topic, self._start = settings.topics.frames, settings.start
        with _reaching(settings):
            _need_topics(settings, settings.topics.model_dump().values())
            self._consumer = KafkaConsumer(
                self._topic,
                **_common(settings),
                group_id=settings.group,
                session_timeout_ms=_ms(settings.session_timeout_s),
                heartbeat_interval_ms=_ms(min(_HEARTBEAT_S, settings.session_timeout_s / 3)),
                # No state is kept per partition, so the assignor that rebalances in one round is the best.
                partition_assignment_strategy=[RangePartitionAssignor],
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="earliest",  # where retention overtakes us; `start` is applied below
                fetch_max_bytes=_FETCH_BYTES,
                max_partition_fetch_bytes=_FETCH_BYTES // 2,
                fetch_max_wait_ms=50,  # as long as one fetch waits for an idle partition, no other is sent
                receive_message_max_bytes=_ANY_SIZE,
            )
            # Else the first generation would be formed without the topic's partitions, and replaced at once.
            self._consumer.partitions_for_topic(self._topic)

    def poll(self, max_frames: int, timeout_s: float) -> tuple[Member, list[Frame]]:
        """Waiting frames, and the member that we are now; may take longer while the group is rebalanced."""
        records = self._consumer.poll(_ms(timeout_s), max_records=max_frames)
        deadline_s = time.monotonic() + _REBALANCE_S
        # kafka-python forgets a rebalance that ends between two polls, and asks for another, without end: stay in poll.
        while self._state == MemberState.REBALANCING and time.monotonic() < deadline_s:
            records = self._consumer.poll(_ms(_STAY_S), max_records=max_frames)
        now = self._consumer.group_metadata()
        generation = now.generation_id if now.state == MemberState.STABLE else -1
        member = Member(now.group_id, generation, now.member_id)
        return member, [_frame(record) for partition in records.values() for record in partition]

    def go_to_committed(self) -> list[str]:
        """Continue every assigned partition at its committed position; returns their names.

        A partition without one starts as the settings say, and commits that at once: what arrives from now on is
        never skipped, whoever comes to own it.
        """
        assigned = self._consumer.assignment()
        oldest = self._consumer.beginning_offsets(assigned, timeout_ms=_ms(ANSWER_S))
        first: dict[TopicPartition, OffsetAndMetadata] = {}
        for partition in assigned:
            offset = self._consumer.committed(partition, timeout_ms=_ms(ANSWER_S))
            if offset is None:
                offset = oldest[partition] if self._start == "earliest" else self._newest(partition)
                first[partition] = OffsetAndMetadata(offset, "", -1)
            elif offset < oldest[partition]:
                lost = oldest[partition] - offset
                log.warning("%s[%d]@%d: retention deleted %d frames that were not inspected", *partition, offset, lost)
                offset = oldest[partition]
            self._consumer.seek(partition, offset)
        if first:
            self._consumer.commit(first, timeout_ms=_ms(ANSWER_S))
        return sorted(f"{topic}[{partition}]" for topic, partition in assigned)

    def commit(self, outcomes: Sequence[Outcome]) -> None:
        """Mark the frames of `outcomes` as done."""
        self._consumer.commit(_behind(outcomes), timeout_ms=_ms(ANSWER_S))

    def probe(self) -> None:
        """Ask the broker for something small."""
        self._consumer.end_offsets([TopicPartition(self._topic, 0)], timeout_ms=1000)

    def close(self) -> None:
        """Leave the group, so that the others take over at once."""
        with contextlib.suppress(KafkaError):
            self._consumer.close(autocommit=False, timeout_ms=2000)

    @property
    def _state(self) -> str:
        state: str = self._consumer.group_metadata().state
        return state

    def _newest(self, partition: TopicPartition) -> int:
        offset: int = self._consumer.end_offsets([partition], timeout_ms=_ms(ANSWER_S))[partition]
        return offset


class Outbox:
    """Publishes outcomes. With a `transactional_id`, in transactions; opening it ends the one that a predecessor left.

    Raises:
        BrokerError: from every method; afterwards only `close` may be called.
    """

    def __init__(self, settings: KafkaSettings, transactional_id: str | None) -> None:
        topics = settings.topics
        self._topics = {
            "verdict": topics.verdicts,
            "late": topics.verdicts,
            "alert": topics.alerts,
            "dead_letter": topics.dead_letters,
        }
        self._producer = KafkaProducer(
            **_producing(settings),
            transactional_id=transactional_id,
            transaction_timeout_ms=_ms(ANSWER_S),  # readers wait so long for a worker that died in a transaction
        )
        if transactional_id is not None:
            try:
                self._producer.init_transactions()
            except KafkaError:
                self.close(wait_s=0)
                raise

    def send(self, outcomes: Sequence[Outcome]) -> None:
        """Publish; returns when all is stored."""
        _confirm(self._send(outcomes))

    def transact(self, outcomes: Sequence[Outcome], member: Member) -> None:
        """Publish, and mark the frames as done in the name of `member`, in one transaction."""
        _within(ANSWER_S, partial(self._transact, outcomes, member))

    def close(self, wait_s: float) -> None:
        """Close in the background, and wait for that for `wait_s`: records that the broker does not take delay it."""
        _close(self._producer, wait_s)

    def _transact(self, outcomes: Sequence[Outcome], member: Member) -> None:
        self._producer.begin_transaction()
        sent = self._send(outcomes)
        group = ConsumerGroupMetadata(member.group, member.generation, member.id)
        self._producer.send_offsets_to_transaction(_behind(outcomes), group)
        _confirm(sent)  # kafka-python would commit without a record that it gave up on
        self._producer.commit_transaction()

    def _send(self, outcomes: Sequence[Outcome]) -> list[FutureRecordMetadata]:
        events = [event for outcome in outcomes for event in events_of(outcome)]
        return [self._producer.send(self._topics[e.kind], e.value, e.key, list(e.headers)) for e in events]


class FramePublisher:
    """The camera's side of the line: publishes frames, in order per key.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: the topic does not exist.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._bootstrap_servers, self._topic = settings.bootstrap_servers, settings.topics.frames
        self._sent: deque[FutureRecordMetadata] = deque()
        room = settings.max_frame_bytes + 2**16  # key and headers
        with _reaching(settings):
            _need_topics(settings, [self._topic])
            self._producer = KafkaProducer(**_producing(settings), max_request_size=room)

    def publish(self, key: bytes, headers: Mapping[str, str], data: bytes) -> None:
        """Send one frame; waits only when too many are on their way.

        Raises:
            UnavailableError: this frame, or one sent before it, was not stored.
        """
        encoded = [(name, value.encode("utf-8")) for name, value in headers.items()]
        with self._faults():
            self._sent.append(self._producer.send(self._topic, data, key, encoded))
            while len(self._sent) > _WINDOW:
                _confirm([self._sent.popleft()])

    def flush(self) -> None:
        """Wait until every frame is stored.

        Raises:
            UnavailableError: one was not.
        """
        with self._faults():
            _confirm(self._sent)
        self._sent.clear()

    def close(self) -> None:
        """Release the connection; may be called twice. Frames that were not flushed may be lost."""
        _close(self._producer, wait_s=2)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            raise UnavailableError(
                f"Kafka at {self._bootstrap_servers}: a frame was not stored in '{self._topic}' ({text(error)}); "
                "check the broker, and its message.max.bytes where frames are large"
            ) from error


class ResultReader:
    """Reads verdicts and dead letters as they are committed, from now on and from all partitions.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: a topic does not exist.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._bootstrap_servers = settings.bootstrap_servers
        topics = (settings.topics.verdicts, settings.topics.dead_letters)
        with _reaching(settings):
            _need_topics(settings, topics)
            consumer = KafkaConsumer(**_common(settings), isolation_level="read_committed")
            partitions = [TopicPartition(topic, n) for topic in topics for n in consumer.partitions_for_topic(topic)]
            consumer.assign(partitions)
            for partition, end in consumer.end_offsets(partitions).items():
                consumer.seek(partition, end)
        self._consumer = consumer

    def poll(self, timeout_s: float) -> list[dict[str, Any]]:
        """The data of the results that came in; waits at most `timeout_s` for the first.

        Raises:
            UnavailableError: the broker refuses.
        """
        try:
            records = self._consumer.poll(_ms(timeout_s))
        except KafkaError as error:
            raise UnavailableError(
                f"Kafka at {self._bootstrap_servers}: no results can be read ({text(error)}); check the broker"
            ) from error
        return [json.loads(record.value) for partition in records.values() for record in partition]

    def close(self) -> None:
        """Release the connection; may be called twice."""
        self._consumer.close()


def create_topics(settings: KafkaSettings, partitions: int) -> None:
    """Create the topics that do not exist yet, the frames topic with `partitions`: at most so many workers share it.

    Raises:
        UnavailableError: the broker does not answer, or refuses.
    """
    with _reaching(settings), _admin(settings) as admin:
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
    with _reaching(settings), _admin(settings) as admin:
        missing = _missing(admin, topics.model_dump().values())
        return TopicFacts(missing, None if topics.frames in missing else _max_message_bytes(admin, topics.frames))


def text(error: Exception) -> str:
    """What an error says, or at least what it is."""
    return str(error) or type(error).__name__


class _TokenFromSettings(AbstractTokenProvider):  # type: ignore[misc]  # kafka-python has no types
    """Reads the token anew for each connection: something else keeps it fresh."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def token(self) -> str:
        return self._secret.read()


def _reach(settings: KafkaSettings) -> dict[str, Any]:
    """Where the broker is, and how to prove ourselves to it."""
    reach: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "bootstrap_timeout_ms": _ms(ANSWER_S),
        "request_timeout_ms": _ms(ANSWER_S),
    }
    if (tls := settings.tls) is not None:
        tls.check("transport.kafka.tls")
        files = {"ssl_cafile": tls.ca, "ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
        reach |= {name: str(path) for name, path in files.items() if path is not None}
        reach["security_protocol"] = "SASL_SSL" if settings.sasl else "SSL"
    if (sasl := settings.sasl) is not None:
        reach["sasl_mechanism"] = sasl.mechanism
        if sasl.token is not None:
            sasl.token.read()  # a missing one is said here, where somebody listens
            reach["sasl_oauth_token_provider"] = _TokenFromSettings(sasl.token)
        elif sasl.password is not None:
            reach |= {"sasl_plain_username": sasl.username, "sasl_plain_password": sasl.password.read()}
    return reach


def _common(settings: KafkaSettings) -> dict[str, Any]:
    return {
        **_reach(settings),
        "client_id": "quarterturn",
        "reconnect_backoff_max_ms": 1000,
        "metrics_enabled": False,
        "allow_auto_create_topics": False,
    }


def _producing(settings: KafkaSettings) -> dict[str, Any]:
    return {
        **_common(settings),
        "batch_size": 2**18,
        "max_block_ms": _ms(ANSWER_S),
        "delivery_timeout_ms": _ms(ANSWER_S),
        "retry_backoff_ms": 5,  # a transaction waits so long for the end of the one before
    }


def _admin(settings: KafkaSettings) -> contextlib.closing[KafkaAdminClient]:
    return contextlib.closing(KafkaAdminClient(**_reach(settings)))


@contextlib.contextmanager
def _reaching(settings: KafkaSettings) -> Iterator[None]:
    """Faults of the first contact as one sentence."""
    try:
        yield
    except (KafkaError, ValueError) as error:
        raise UnavailableError(
            f"Kafka at {settings.bootstrap_servers} cannot be used ({text(error)}); "
            "start the broker, or correct 'bootstrap_servers', 'tls', 'sasl' or the permissions"
        ) from error


def _need_topics(settings: KafkaSettings, topics: Iterable[str]) -> None:
    """A misspelt name is a fault, not a new topic."""
    with _admin(settings) as admin:
        missing = _missing(admin, topics)
    if missing:
        servers = settings.bootstrap_servers
        raise ConfigError(
            f"Kafka at {servers} has no topic '{missing[0]}'; create it with: kafka-topics.sh "
            f"--bootstrap-server {servers} --create --topic {missing[0]} --partitions 4"
        )


def _missing(admin: KafkaAdminClient, topics: Iterable[str]) -> list[str]:
    described = admin.describe_topics(list(topics))
    return [topic["name"] for topic in described if topic["error_code"] == UnknownTopicOrPartitionError.errno]


def _max_message_bytes(admin: KafkaAdminClient, topic: str) -> int | None:
    """The largest record of `topic`, by its own settings or the broker's; None where we are not told."""
    asked = ConfigResource("topic", topic, ["max.message.bytes"])
    answer = admin.describe_configs([asked], config_filter="all")["topic"][topic]
    return int(answer["max.message.bytes"]["value"]) if answer else None


def _frame(record: ConsumerRecord) -> Frame:
    headers = {name: value for name, value in record.headers if value is not None}
    return Frame(Position(record.topic, record.partition, record.offset), record.key, headers, record.value or b"")


_read_strictly = DefaultRecordBatch._read_msg


def _read_record(batch: DefaultRecordBatch) -> DefaultRecord:
    """kafka-python's reader; it alone would stop at a header whose name is not UTF-8, for good (decisions/0014)."""
    try:
        return _read_strictly(batch)
    except UnicodeDecodeError:
        _mend_names(batch._buffer, batch._pos)
        return _read_strictly(batch)


def _mend_names(buffer: bytearray, position: int) -> None:
    """Replace each byte of a header's name that is not ASCII by UNREADABLE, in the record (KIP-98) at `position`."""

    def skip() -> None:
        nonlocal position
        length, position = decode_varint(buffer, position)
        position += max(length, 0)  # below 0: null

    for _ in ("length", "attributes", "timestamp", "offset"):
        _, position = decode_varint(buffer, position)
    for _ in ("key", "value"):
        skip()
    headers, position = decode_varint(buffer, position)
    for _ in range(headers):
        length, start = decode_varint(buffer, position)
        name = buffer[start : start + length].decode("ascii", "replace").replace("\ufffd", UNREADABLE)
        buffer[start : start + length] = name.encode("ascii")
        position = start + length
        skip()  # its value


DefaultRecordBatch._read_msg = _read_record


def _behind(outcomes: Sequence[Outcome]) -> dict[TopicPartition, OffsetAndMetadata]:
    """The positions behind the last frame of each partition."""
    last = {TopicPartition(o.position.topic, o.position.partition): o.position.offset for o in outcomes}
    return {partition: OffsetAndMetadata(offset + 1, "", -1) for partition, offset in last.items()}


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
        record.get(timeout=ANSWER_S)


def _close(producer: KafkaProducer, wait_s: float) -> None:
    """Close `producer` on a thread of its own: while records wait for an answer it refuses, and is asked again."""

    def close() -> None:
        while True:
            with contextlib.suppress(KafkaError):
                producer.close(timeout=ANSWER_S)
                return

    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(wait_s)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
