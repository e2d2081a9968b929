"""What every transport promises, on every transport."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.settings.worker import FolderSettings, KafkaSettings, Topics
from quarterturn.worker.transport.base import Transport
from quarterturn.worker.transport.folder import FolderTransport
from quarterturn.worker.transport.kafka.transport import KafkaTransport
from quarterturn.worker.transport.memory import MemoryTransport
from tests import examples
from tests.worker.transport import librdkafka

PICTURES = [b"good 0", b"broken 1", b"defect 2", b"good 3", b"defect 4", b"late 5", b"good 6"]


class Line(Protocol):
    """PICTURES wait in front of a transport; `results` says what has come out behind it, by kind of event."""

    ends: bool

    def open(self) -> Transport: ...

    def results(self) -> dict[str, list[int]]: ...


class MemoryLine:
    ends = True

    def open(self) -> Transport:
        self._transport = MemoryTransport([examples.frame(offset, data=data) for offset, data in enumerate(PICTURES)])
        return self._transport

    def results(self) -> dict[str, list[int]]:
        return by_kind([(event.kind, json.loads(event.value)) for event in self._transport.events])


@dataclass
class FolderLine:
    folder: Path
    ends = True

    def __post_init__(self) -> None:
        (self.folder / "pictures").mkdir()
        for number, data in enumerate(PICTURES):
            (self.folder / "pictures" / f"{number:03}.png").write_bytes(data)

    def open(self) -> Transport:
        return FolderTransport(FolderSettings(path=self.folder / "pictures", out=self.folder / "out.jsonl"))

    def results(self) -> dict[str, list[int]]:
        lines = [json.loads(line) for line in (self.folder / "out.jsonl").read_text().splitlines()]
        return by_kind([(line["kind"], line["data"]) for line in lines])


@dataclass
class KafkaLine:
    bootstrap: str
    topics: Topics
    delivery: Any
    ends = False

    def __post_init__(self) -> None:
        librdkafka.produce(self.bootstrap, self.topics.frames, PICTURES)

    def open(self) -> Transport:
        group = self.topics.frames
        return KafkaTransport(
            KafkaSettings(bootstrap_servers=self.bootstrap, topics=self.topics, group=group, delivery=self.delivery)
        )

    def results(self) -> dict[str, list[int]]:
        topics = {"verdict": self.topics.verdicts, "alert": self.topics.alerts, "dead_letter": self.topics.dead_letters}
        return by_kind(
            [
                ("late" if "ageMs" in data else kind, data)
                for kind, topic in topics.items()
                for data in librdkafka.values(self.bootstrap, topic)
            ]
        )


def by_kind(events: list[tuple[str, dict[str, Any]]]) -> dict[str, list[int]]:
    offsets: dict[str, list[int]] = {"verdict": [], "late": [], "alert": [], "dead_letter": []}
    for kind, data in events:
        offsets[kind].append(data["frame"]["offset"])
    return offsets


ALL_RESULTS = {"verdict": [0, 2, 3, 4, 6], "late": [5], "alert": [2, 4], "dead_letter": [1]}


@pytest.fixture(params=["memory", "folder", "kafka exactly_once", "kafka at_least_once"])
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Line:
    if request.param == "memory":
        return MemoryLine()
    if request.param == "folder":
        return FolderLine(tmp_path)
    create_topics: Callable[[int], Topics] = request.getfixturevalue("create_topics")
    bootstrap = request.getfixturevalue("kafka_bootstrap")
    return KafkaLine(bootstrap, create_topics(1), request.param.split()[1])


def poll(transport: Transport, max_frames: int) -> list[Frame]:
    """The next batch; waits for it as long as a consumer group may need to form."""
    deadline = time.monotonic() + 20
    while not (frames := transport.poll(max_frames, 0.5)):
        assert time.monotonic() < deadline, "no frame came"
    return frames


def drain(transport: Transport, count: int) -> list[Frame]:
    """Poll and deliver `count` frames in batches of at most 3."""
    drained: list[Frame] = []
    while len(drained) < count:
        frames = poll(transport, min(3, count - len(drained)))
        transport.deliver([examples.outcome(frame) for frame in frames])
        drained += frames
    return drained


def test_gives_each_frame_once_and_in_order(line: Line) -> None:
    with closing(line.open()) as transport:
        frames = drain(transport, len(PICTURES))
        assert transport.poll(3, 0.2) == []

    assert [frame.data for frame in frames] == PICTURES
    assert [frame.position.offset for frame in frames] == list(range(len(PICTURES)))
    assert {(frame.position.topic, frame.position.partition) for frame in frames} == {(frames[0].position.topic, 0)}
    assert all(frame.info().camera for frame in frames)


def test_publishes_each_outcome_once(line: Line) -> None:
    with closing(line.open()) as transport:
        drain(transport, len(PICTURES))

    assert line.results() == ALL_RESULTS


def test_polls_no_more_than_asked_for(line: Line) -> None:
    with closing(line.open()) as transport:
        assert len(poll(transport, 1)) == 1
        assert len(poll(transport, 2)) == 2
        assert 1 <= len(poll(transport, 100)) <= 4


def test_polls_ahead_of_the_delivery(line: Line) -> None:
    with closing(line.open()) as transport:
        batches = [poll(transport, 2) for _ in range(3)]
        for batch in batches:
            transport.deliver([examples.outcome(frame) for frame in batch])

    assert line.results() == {"verdict": [0, 2, 3, 4], "late": [5], "alert": [2, 4], "dead_letter": [1]}


def test_refuses_outcomes_of_another_batch(line: Line) -> None:
    with closing(line.open()) as transport:
        frames = poll(transport, 3)
        with pytest.raises(ValueError, match="oldest batch"):
            transport.deliver([examples.outcome(frame) for frame in frames[:-1]])

    assert line.results() == {"verdict": [], "late": [], "alert": [], "dead_letter": []}


def test_is_exhausted_only_when_nothing_can_come(line: Line) -> None:
    with closing(line.open()) as transport:
        assert not transport.exhausted
        drain(transport, len(PICTURES))
        assert transport.exhausted is line.ends


def test_can_be_closed_twice(line: Line) -> None:
    transport = line.open()
    transport.close()
    transport.close()


@pytest.mark.parametrize("line", ["folder", "kafka exactly_once", "kafka at_least_once"], indirect=True)
def test_goes_on_where_the_last_delivery_ended(line: Line) -> None:
    with closing(line.open()) as transport:
        drain(transport, 3)
        poll(transport, 2)  # and then the worker is stopped
    with closing(line.open()) as transport:
        frames = drain(transport, 4)

    assert [frame.position.offset for frame in frames] == [3, 4, 5, 6]
    assert line.results() == ALL_RESULTS
