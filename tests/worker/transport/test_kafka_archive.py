"""Frames of the past and results of the past, from a real broker."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from quarterturn.worker.contract.errors import DataError, GoneError, UnavailableError
from quarterturn.worker.messages.events import position_of
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.settings.worker import Topics
from quarterturn.worker.transport.kafka import connection
from quarterturn.worker.transport.kafka.archive import FrameArchive
from quarterturn.worker.transport.kafka.results import ResultReader
from quarterturn.worker.transport.kafka.topics import create_topics as create_line
from quarterturn.worker.transport.kafka.transport import KafkaTransport
from tests import services
from tests.worker.transport import librdkafka
from tests.worker.transport.workers import outcomes, poll, settings_for, wait_until

CreateTopics = Callable[[int], Topics]


def said_of(found: Frame | DataError) -> bytes | str:
    assert isinstance(found, Frame | GoneError), "a page says it in other words than other faults"
    return found.data if isinstance(found, Frame) else str(found)


def offsets(reader: ResultReader) -> list[int]:
    return [position_of(result["resultId"]).offset for result in reader.until_now()]


def test_frames_are_fetched_by_the_positions_of_their_results(
    kafka_bootstrap: str, create_topics: CreateTopics
) -> None:
    topics = create_topics(2)
    settings = settings_for(kafka_bootstrap, topics)
    for partition in range(2):
        frames = [b"p%d f%02d " % (partition, n) + bytes(3_000 * n) for n in range(40)]
        librdkafka.produce(kafka_bootstrap, topics.frames, frames, partition)
    here = librdkafka.topic_id(kafka_bootstrap, topics.frames)
    wanted = [
        Position(topics.frames, p, n, here) for p, n in [(1, 39), (0, 3), (0, 4), (0, 5), (0, 30), (1, 0), (0, 3)]
    ]
    with closing(FrameArchive(settings)) as archive:
        for _ in range(2):
            found = archive.fetch(wanted)
            assert found.keys() == set(wanted)
            for position, frame in found.items():
                assert isinstance(frame, Frame)
                assert frame.position == position
                assert frame.data.startswith(b"p%d f%02d " % (position.partition, position.offset))
                assert frame.headers["part_id"] == b"part-" + frame.data[:20]
        assert archive.fetch([]) == {}


def test_why_a_frame_is_gone(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    librdkafka.produce(kafka_bootstrap, topics.frames, [b"%d" % n for n in range(10)])
    before = librdkafka.topic_id(kafka_bootstrap, topics.frames)
    librdkafka.delete_before(kafka_bootstrap, topics.frames, 4)

    def at(offset: int, partition: int = 0, topic: str = topics.frames, topic_id: str | None = before) -> Position:
        return Position(topic, partition, offset, topic_id)

    with closing(FrameArchive(settings_for(kafka_bootstrap, topics))) as archive:
        asked = [at(3), at(4), at(9), at(10), at(4, partition=7), at(4, topic="secrets"), at(5, topic_id=None)]
        found = [said_of(one) for one in archive.fetch(asked).values()]
        name = topics.frames
        assert (found[1], found[2]) == (b"4", b"9")
        assert found[6] == b"5"
        assert found[0] == f"{name}[0]@3: the frame is gone; retention has deleted it, raise the topic's retention.ms"
        assert (
            found[3]
            == f"{name}[0]@10: there is no such frame yet, the last frame of its partition is 9; correct the number"
        )
        assert found[4] == f"{name}[7]@4: '{name}' has no such partition"
        assert found[5] == f"secrets[0]@4: the line's frames are in '{name}'; name the line that this result is of"

        librdkafka.make_anew(kafka_bootstrap, topics.frames)
        librdkafka.produce(kafka_bootstrap, topics.frames, [b"new"] * 10)
        after = librdkafka.topic_id(kafka_bootstrap, topics.frames)
        (old,), (new,) = archive.fetch([at(5)]).values(), archive.fetch([at(5, topic_id=after)]).values()
        assert said_of(old) == f"{name}[0]@5: the topic was deleted and made anew since, so the frame is gone"
        assert said_of(new) == b"new"


def test_a_broker_that_falls_silent_does_not_make_frames_gone(
    broker: services.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = Topics(**{field: f"silent-{field.replace('_', '-')}" for field in Topics.model_fields})
    settings = settings_for(broker.bootstrap, topics)
    create_line(settings, 1)
    librdkafka.produce(broker.bootstrap, topics.frames, [b"1"])
    with closing(FrameArchive(settings)) as archive:
        broker.freeze()
        try:
            with monkeypatch.context() as patience:
                patience.setattr(connection, "ANSWER_S", 1.0)
                with pytest.raises(UnavailableError, match=f"Kafka at {broker.bootstrap}: .*check the broker"):
                    archive.fetch([Position(topics.frames, 0, 0)], timeout_s=1)
        finally:
            broker.thaw()
        assert said_of(archive.fetch([Position(topics.frames, 0, 0)])[Position(topics.frames, 0, 0)]) == b"1"


@pytest.mark.parametrize(("last", "given"), [(None, 6), (0, 0), (4, 2), (100, 6)])
def test_results_are_read_from_the_past(
    kafka_bootstrap: str, create_topics: CreateTopics, last: int | None, given: int
) -> None:
    """Each of these batches is one transaction, whose mark counts as a record."""
    topics = create_topics(1)
    settings = settings_for(kafka_bootstrap, topics)
    pictures = [b"good", b"defect", b"late", b"good", b"good", b"defect"]
    librdkafka.produce(kafka_bootstrap, topics.frames, pictures)
    with closing(KafkaTransport(settings)) as transport:
        for _ in pictures:
            transport.deliver(outcomes(poll(transport, 1)))
        wait_until(lambda: len(librdkafka.consume(kafka_bootstrap, topics.verdicts)) == 6, "the last mark")
        with closing(ResultReader(settings, last)) as reader:
            assert offsets(reader) == list(range(6))[6 - given :]
            librdkafka.produce(kafka_bootstrap, topics.frames, [b"broken"])
            transport.deliver(outcomes(poll(transport, 1)))
            new: list[int] = []
            wait_until(lambda: bool(new.extend(offsets(reader)) or new), "the next result")
            assert new == [6]
