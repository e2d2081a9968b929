"""What mqtt.py, opcua.py, webhook.py and database.py share: the way from Quarterturn's topics to a receiver.

It needs `pip install confluent-kafka` and nothing of Quarterturn. Copy it together with the one that you need. Each
event reaches its receiver at least once: its position is committed when the receiver has it, not before. So after a
fault an event may come again, with the same id. Where Kafka asks for a login or TLS, add its settings in `Reader`.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

Ready = TypeVar("Ready")
MAX_PAUSE_S = 30.0


class AwayError(Exception):
    """The receiver cannot take events at the moment; says why. They are handed to it again."""


@dataclass(frozen=True)
class Event:
    """A CloudEvent that Quarterturn published: its attributes (`id`, `source`, `type`, ...) and its data."""

    place: str
    attributes: dict[str, str]
    value: bytes
    """The data as it came, in JSON."""
    data: dict[str, Any]
    again: bool
    """Whether an earlier run of this program has handed it over already; only where `replay` asked for such."""

    @property
    def kind(self) -> str:
        """Such as `verdict`, of quarterturn.verdict.v1."""
        return self.attributes["type"].removeprefix("quarterturn.").rpartition(".")[0]


class Reader:
    """Events of `topics`, a name or several with commas between them, from where the group `group` stands.

    At the start what lies up to `replay` offsets before that position, in each partition, comes once more.
    """

    def __init__(self, servers: str, topics: str, group: str, replay: int = 0) -> None:
        self._replay = replay
        self._messages: list[Message] = []
        self._skipped: list[str] = []
        self._troubles: set[int] = set()  # of Kafka, by their codes; each is said once, until there are events again
        self._delivered: dict[tuple[str, int], int] = {}  # the positions at which replays end
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 6_000,  # so soon another run may go on where one was cut off
                "isolation.level": "read_committed",  # else results that were taken back are seen, too
                "error_cb": self._trouble,
                "log_level": 0,  # it would say twenty times a second that the broker is away
            }
        )
        self._consumer.subscribe(topics.split(","), on_assign=self._assigned)

    def read(self, at_once: int, prepare: Callable[[Event], Ready]) -> list[Ready]:
        """The next events, as `prepare` makes them; without those that are none, or that it refuses."""
        with _interrupts_later():
            first = self._consumer.poll(1.0)
            # What is there already comes along, so a receiver that was away is given larger pieces.
            self._messages = [] if first is None else [first, *self._consumer.consume(at_once - 1, timeout=0)]
        if first is not None:
            self._troubles.clear()
        self._skipped = []
        return list(self._prepared(prepare))

    def commit(self) -> None:
        """What was read last has been delivered, or is skipped for good."""
        for line in self._skipped:
            say(line)
        positions = {(str(one.topic()), _partition(one)): _offset(one) + 1 for one in self._messages}
        ends = [TopicPartition(*key, max(end, self._delivered.get(key, 0))) for key, end in positions.items()]
        try:
            if ends:
                with _interrupts_later():
                    self._consumer.commit(offsets=ends, asynchronous=False)
        except KafkaException as error:  # another reader of the group has taken over, or the broker is away
            say(f"the position is not committed, so these events may come again: {error.args[0].str()}")

    def rewind(self) -> None:
        """Let `read` give the same events again."""
        for one in reversed(self._messages):  # the first of each partition comes last
            with suppress(KafkaException):  # the partition went to another reader, with all that is not committed
                self._consumer.seek(TopicPartition(str(one.topic()), _partition(one), _offset(one)))

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _trouble(self, error: KafkaError) -> None:
        if error.code() not in self._troubles:
            say(f"Kafka: {error.str()}")
            self._troubles.add(error.code())

    def _prepared(self, prepare: Callable[[Event], Ready]) -> Iterator[Ready]:
        for message in self._messages:
            if error := message.error():
                raise KafkaException(error)
            key = str(message.topic()), _partition(message)
            place = f"{key[0]}[{key[1]}]@{_offset(message)}"
            try:
                yield prepare(_event(message, place, _offset(message) < self._delivered.get(key, 0)))
            except KeyError as missing:
                self._skipped.append(f"{place} is skipped: it has no {missing}")
            except (ValueError, TypeError, RecursionError) as error:
                self._skipped.append(f"{place} is skipped: {error}")

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for one in consumer.committed(partitions, timeout=30) if self._replay else []:
            if one.offset > 0:
                self._delivered[one.topic, one.partition] = one.offset
        for one in partitions:
            if end := self._delivered.get((one.topic, one.partition)):
                one.offset = max(0, end - self._replay)
        consumer.assign(partitions)


def forward(
    reader: Reader, prepare: Callable[[Event], Ready], deliver: Callable[[list[Ready]], None], at_once: int = 100
) -> None:
    """Hand events on until Ctrl-C or SIGTERM, at most `at_once` together, in their order.

    `prepare` makes of an event what `deliver` takes; one that it refuses with a ValueError, KeyError or TypeError is
    skipped, and said. `deliver` returns when the receiver has them all, and raises `AwayError` where it takes none now.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pause_s = 0.0
    with closing(reader), suppress(KeyboardInterrupt):
        while True:
            ready = _read(reader, at_once, prepare)
            try:
                if ready:
                    deliver(ready)
            except AwayError as away:
                if not pause_s:
                    say(f"{away}; waiting for it, nothing is lost")
                pause_s = min(max(2 * pause_s, 0.5), MAX_PAUSE_S)
                reader.rewind()
                time.sleep(pause_s)
                continue
            if ready and pause_s:
                say("it is back")
                pause_s = 0.0
            reader.commit()


def say(line: str) -> None:
    """To the one who runs the program."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hear Ctrl-C and SIGTERM at the end of the block: confluent-kafka loses an exception out of its callbacks."""
    heard: list[int] = []
    before = {
        one: signal.signal(one, lambda number, _: heard.append(number)) for one in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if heard:
        raise KeyboardInterrupt


def _read(reader: Reader, at_once: int, prepare: Callable[[Event], Ready]) -> list[Ready]:
    try:
        return reader.read(at_once, prepare)
    except KafkaException as error:
        sys.exit(f"Kafka: {error.args[0].str()}")


def _event(message: Message, place: str, again: bool) -> Event:
    headers = {name: value or b"" for name, value in message.headers() or []}
    attributes = {name[3:]: value.decode() for name, value in headers.items() if name.startswith("ce_")}
    if missing := {"id", "source", "type", "time", "specversion"} - set(attributes):
        raise ValueError(f"it is no event of Quarterturn, for want of the header ce_{min(missing)}")
    if not all(value.isprintable() for value in attributes.values()):
        raise ValueError("one of its attributes cannot be printed")
    value = message.value() or b""
    data = json.loads(value)
    if not isinstance(data, dict):
        raise ValueError("its data is no JSON object")
    return Event(place, attributes, value, data, again)


def _partition(message: Message) -> int:
    return int(message.partition() or 0)


def _offset(message: Message) -> int:
    return int(message.offset() or 0)
