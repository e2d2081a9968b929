"""Writing: outcomes, in transactions where a line wants them, and frames on a camera's side."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, get_args

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.producer.future import FutureRecordMetadata
from kafka.structs import ConsumerGroupMetadata

from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.messages.events import AlarmKind, Outcome, events_of
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka import connection
from quarterturn.worker.transport.kafka.connection import common, ms, reaching, text
from quarterturn.worker.transport.kafka.consumer import Member
from quarterturn.worker.transport.kafka.positions import Positions
from quarterturn.worker.transport.kafka.topics import need_topics, record_bytes

_WINDOW = 32  # frames of a camera on their way


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
            "dead_letter": topics.dead_letters,
            **dict.fromkeys(("alert", *get_args(AlarmKind)), topics.alerts),
        }
        self._producer = KafkaProducer(
            **producing(settings),
            transactional_id=transactional_id,
            transaction_timeout_ms=ms(
                connection.ANSWER_S
            ),  # readers wait so long for a worker that died in a transaction
        )
        if transactional_id is not None:
            try:
                self._producer.init_transactions()
            except KafkaError:
                self.close(wait_s=0)
                raise

    def send(self, outcomes: Sequence[Outcome]) -> None:
        """Publish; returns when all is stored."""
        confirm(self._send(outcomes))

    def transact(self, outcomes: Sequence[Outcome], positions: Positions, member: Member) -> None:
        """Publish, and commit the positions behind their frames in the name of `member`, in one transaction."""
        _within(connection.ANSWER_S, partial(self._transact, outcomes, positions, member))

    def close(self, wait_s: float) -> None:
        """Close in the background, and wait for that for `wait_s`: records that the broker does not take delay it."""
        close_producer(self._producer, wait_s)

    def _transact(self, outcomes: Sequence[Outcome], positions: Positions, member: Member) -> None:
        self._producer.begin_transaction()
        sent = self._send(outcomes)
        group = ConsumerGroupMetadata(member.group, member.generation, member.id)
        self._producer.send_offsets_to_transaction(positions, group)
        confirm(sent)  # kafka-python would commit without a record that it gave up on
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
        with reaching(settings):
            need_topics(settings, [self._topic])
            self._producer = KafkaProducer(**producing(settings), max_request_size=record_bytes(settings))

    def publish(self, key: bytes, headers: Mapping[str, str], data: bytes) -> None:
        """Send one frame; waits only when too many are on their way.

        Raises:
            UnavailableError: this frame, or one sent before it, was not stored.
        """
        encoded = [(name, value.encode("utf-8")) for name, value in headers.items()]
        with self._faults():
            self._sent.append(self._producer.send(self._topic, data, key, encoded))
            while len(self._sent) > _WINDOW:
                confirm([self._sent.popleft()])

    def flush(self) -> None:
        """Wait until every frame is stored.

        Raises:
            UnavailableError: one was not.
        """
        with self._faults():
            confirm(self._sent)
        self._sent.clear()

    def close(self) -> None:
        """Release the connection; may be called twice. Frames that were not flushed may be lost."""
        close_producer(self._producer, wait_s=2)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            raise UnavailableError(
                f"Kafka at {self._bootstrap_servers}: a frame was not stored in '{self._topic}' ({text(error)}); "
                "check the broker, and its message.max.bytes where frames are large"
            ) from error


def producing(settings: KafkaSettings) -> dict[str, Any]:
    """The options of every producer."""
    return {
        **common(settings),
        "batch_size": 2**18,
        "max_block_ms": ms(connection.ANSWER_S),
        "delivery_timeout_ms": ms(connection.ANSWER_S),
        "retry_backoff_ms": 5,  # a transaction waits so long for the end of the one before
    }


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


def confirm(sent: Iterable[FutureRecordMetadata]) -> None:
    """Wait until all is stored.

    Raises:
        KafkaError: something was not.
    """
    for record in sent:
        record.get(timeout=connection.ANSWER_S)


def close_producer(producer: KafkaProducer, wait_s: float) -> None:
    """Close `producer` on a thread of its own: while records wait for an answer it refuses, and is asked again."""

    def close() -> None:
        while True:
            with contextlib.suppress(KafkaError):
                producer.close(timeout=connection.ANSWER_S)
                return

    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(wait_s)
