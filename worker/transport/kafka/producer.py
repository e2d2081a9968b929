"""Writing: results, in transactions where a line wants them, and frames on a camera's side."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.producer.future import FutureRecordMetadata

from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka import connection
from quarterturn.worker.transport.kafka.checksums import warn_if_slow
from quarterturn.worker.transport.kafka.connection import common, ms, reaching, text
from quarterturn.worker.transport.kafka.consumer import Member
from quarterturn.worker.transport.kafka.outgoing import Record
from quarterturn.worker.transport.kafka.positions import Positions
from quarterturn.worker.transport.kafka.topics import need_topics, record_bytes
from quarterturn.worker.transport.kafka.transactions import Transactions

_WINDOW = 32  # frames of a camera on their way


class Outbox:
    """Publishes records: with a `transactional_id`, in transactions, else as they are stored.

    Raises:
        BrokerError: from every method; afterwards only `close` may be called.
    """

    def __init__(self, settings: KafkaSettings, transactional_id: str | None) -> None:
        self._transactions = self._producer = None
        if transactional_id is not None:
            self._transactions = Transactions(settings, transactional_id)
        else:
            self._producer = KafkaProducer(**producing(settings))

    def send(self, records: Sequence[Record]) -> None:
        """Publish; returns when all is stored."""
        assert self._producer is not None
        confirm([self._producer.send(one.topic, one.value, one.key, list(one.headers)) for one in records])

    def transact(self, records: Sequence[Record], positions: Positions, member: Member) -> None:
        """Publish, and commit these positions in the name of `member`, in one transaction."""
        assert self._transactions is not None
        self._transactions.transact(records, positions, member)

    def close(self, wait_s: float) -> None:
        """Close; records on their way have `wait_s`, those of a transaction none: whoever comes next ends it."""
        if self._transactions is not None:
            self._transactions.close()
        if self._producer is not None:
            close_producer(self._producer, wait_s)


class FramePublisher:
    """The camera's side of the line: publishes frames, in order per key.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: the topic does not exist.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        warn_if_slow()
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
    }


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
