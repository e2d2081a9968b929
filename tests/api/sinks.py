"""For the tests of the examples that hand results on: events on a real Kafka, and the programs that read them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from confluent_kafka import Consumer, Producer, TopicPartition

from quarterturn.worker.messages.events import AlertKind, Event, Outcome, Verdict, events_of
from tests.api.plant import EXAMPLES
from tests.api.programs import Program, program
from tests.examples import frame, verdict

TIMEOUT_S = 60.0
Found = TypeVar("Found")

BAD = {
    "no header": ((), b'{"camera": "top-01"}'),
    "no JSON": ((), b"\x89PNG"),
    "no object": ((), b"[1, 2]"),
    "nothing": ((), None),
    "deep": ((), b"[" * 100_000),
    "not UTF-8": ((("ce_type", b"\xff"),), b"{}"),
    "control characters": ((("ce_source", b"/quarterturn/line-3/top\x00"),), b"{}"),
}
"""Records that are no events of Quarterturn: headers that overrule a verdict's, and the value."""


class Feed:
    """A topic of Kafka, and what the group has still to read of it."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.bootstrap, self.topic, self.group = bootstrap, topic, f"group-{topic}"
        self._producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
        self._end = 0

    def send(self, *events: Event) -> None:
        for event in events:
            self._produce(list(event.headers), event.value)
        self._producer.flush()

    def put(self, headers: list[tuple[str, bytes]], value: bytes | None) -> None:
        self._produce(headers, value)
        self._producer.flush()

    def _produce(self, headers: list[tuple[str, bytes]], value: bytes | None) -> None:
        self._producer.produce(self.topic, value, b"top-01", headers=headers)
        self._end += 1

    def send_in_transactions(self, *events: Event) -> None:
        """Each in one of its own, as a worker does with one frame at a time."""
        producer = Producer(
            {"bootstrap.servers": self.bootstrap, "transactional.id": self.topic, "log_level": 0, "linger.ms": 0}
        )
        producer.init_transactions(30)
        for event in events:
            producer.begin_transaction()
            producer.produce(self.topic, event.value, headers=list(event.headers))
            producer.commit_transaction(30)

    def put_bad(self) -> int:
        """Every kind of BAD; returns how many."""
        good = dict(verdict_event(99).headers)
        for name, (headers, value) in BAD.items():
            self.put([] if name == "no header" else list((good | dict(headers)).items()), value)
        return len(BAD)

    def position(self) -> int:
        """Up to where the group has committed, 0 where it has not."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.group, "log_level": 0})
        try:
            (one,) = consumer.committed([TopicPartition(self.topic, 0)], timeout=30)
            return max(0, int(one.offset))
        finally:
            consumer.close()

    def wait_until_read(self) -> None:
        wait_for(lambda: self.position() == self._end or None)

    @contextmanager
    def program(self, name: str, *receiver: str, topics: str | None = None, **environment: str) -> Iterator[Program]:
        """`examples/NAME.py` on this topic, until the end of the block."""
        script = [sys.executable, "-W", "error", str(EXAMPLES / name)]
        command = [*script, *receiver, self.bootstrap, topics or self.topic, self.group]
        with program(command, errors=True, **environment) as running:
            yield running


def wait_for(look: Callable[[], Found | None], timeout_s: float = TIMEOUT_S) -> Found:
    """What `look` finds, as soon as it finds anything."""
    deadline_s = time.monotonic() + timeout_s
    while (found := look()) is None:
        assert time.monotonic() < deadline_s, "it did not come in time"
        time.sleep(0.05)
    return found


def result(number: int, alert: AlertKind | None = None, **data: Any) -> Verdict:
    """The verdict on the frame at offset `number`."""
    one = verdict(frame(number), alert)
    return replace(one, data=one.data.model_copy(update=data))


def verdict_event(number: int, alert: AlertKind | None = None, **data: Any) -> Event:
    return of_kind("verdict", result(number, alert, **data))


def of_kind(kind: str, outcome: Outcome) -> Event:
    (event,) = [one for one in events_of(outcome) if one.kind == kind]
    return event


def broken(number: int, **data: Any) -> tuple[list[tuple[str, bytes]], bytes]:
    """The record of a verdict whose data says something else than the schema allows."""
    event = verdict_event(number)
    return list(event.headers), json.dumps(json.loads(event.value) | data).encode()


def attributes(event: Event) -> dict[str, str]:
    return {name.removeprefix("ce_"): value.decode() for name, value in event.headers if name.startswith("ce_")}
