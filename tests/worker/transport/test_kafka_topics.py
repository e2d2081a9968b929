"""The frames topic changes while a line runs: partitions are added, it is made anew, retention overtakes the worker."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress

import pytest

from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.settings.worker import KafkaSettings, Topics
from quarterturn.worker.transport.base import RewoundError
from quarterturn.worker.transport.kafka.transport import KafkaTransport
from tests.worker.transport import librdkafka
from tests.worker.transport.workers import Worker, outcomes, poll, settings_for, wait_until

CreateTopics = Callable[[int], Topics]
FOUND_S = 60  # what docs/kafka.md promises


def results(bootstrap: str, topics: Topics) -> Counter[str]:
    """How often each frame has a verdict, by partId: all frames below are of different parts."""
    return Counter(value["partId"] for value in librdkafka.values(bootstrap, topics.verdicts))


def parts(name: str, count: int) -> dict[str, int]:
    """The results that `count` frames named so are to have."""
    return {f"part-{name}-{number}": 1 for number in range(count)}


def produce(bootstrap: str, topic: str, name: str, count: int, partition: int = 0) -> None:
    frames = [f"{name}-{number}".encode() for number in range(count)]
    librdkafka.produce(bootstrap, topic, frames, partition)


def inspect(settings: KafkaSettings, count: int) -> None:
    """Let a worker join the group, and leave it after so many frames."""
    worker = Worker(settings)
    wait_until(lambda: worker.joined and worker.delivered >= count, "the worker's frames")
    worker.stop()
    assert worker.fault is None


def join(worker: Worker) -> None:
    wait_until(lambda: worker.joined, "joining the group")


@pytest.mark.parametrize(("start", "look_s"), [("latest", None), ("earliest", 1.0)])  # one as in service
def test_partitions_added_while_workers_run_are_found_and_lose_no_frame(
    kafka_bootstrap: str,
    create_topics: CreateTopics,
    monkeypatch: pytest.MonkeyPatch,
    *,
    start: str,
    look_s: float | None,
) -> None:
    if look_s is not None:
        monkeypatch.setattr("quarterturn.worker.transport.kafka.consumer._LOOK_S", look_s)
    topics = create_topics(1)
    produce(kafka_bootstrap, topics.frames, "old", 3)
    worker = Worker(settings_for(kafka_bootstrap, topics, start=start))
    join(worker)
    produce(kafka_bootstrap, topics.frames, "first", 3)
    began_s = time.monotonic()
    librdkafka.add_partitions(kafka_bootstrap, topics.frames, 3)
    for partition in (1, 2):
        produce(kafka_bootstrap, topics.frames, f"added-{partition}", 10, partition)
    expected = parts("first", 3) | parts("added-1", 10) | parts("added-2", 10)
    expected |= parts("old", 3) if start == "earliest" else {}
    wait_until(lambda: len(results(kafka_bootstrap, topics)) >= len(expected), "the last verdict", FOUND_S)
    assert time.monotonic() - began_s < FOUND_S
    worker.stop()
    assert worker.fault is None
    assert results(kafka_bootstrap, topics) == expected


def test_added_partitions_are_found_by_a_worker_that_is_too_busy_to_wait(
    kafka_bootstrap: str, create_topics: CreateTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kafka-python forgets that it joins anew where a poll ends before it has, and would be no member ever again."""
    monkeypatch.setattr("quarterturn.worker.transport.kafka.consumer._LOOK_S", 1.0)
    topics = create_topics(1)
    with closing(KafkaTransport(settings_for(kafka_bootstrap, topics))) as transport:
        wait_until(lambda: transport.poll(1, 0.1) == [] and transport.joined, "joining the group")
        for added in range(1, 6):
            librdkafka.add_partitions(kafka_bootstrap, topics.frames, added + 1)
            produce(kafka_bootstrap, topics.frames, "added", 1, added)
            frames: list[Frame] = []
            while not frames:
                time.sleep(0.3)  # what an engine takes for the batch before
                frames = transport.poll(1, 0.0)
            assert frames[0].position.partition == added
            transport.deliver(outcomes(frames))


def test_a_partition_added_while_nobody_runs_loses_no_frame(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    settings = settings_for(kafka_bootstrap, topics, start="latest")
    inspect(settings, 0)
    for partitions in (2, 3):  # the second one is found by a worker that knows of the first one
        librdkafka.add_partitions(kafka_bootstrap, topics.frames, partitions)
        produce(kafka_bootstrap, topics.frames, f"of-{partitions}", 5, partitions - 1)
        inspect(settings, 5)
    assert results(kafka_bootstrap, topics) == parts("of-2", 5) | parts("of-3", 5)


def test_workers_that_begin_together_begin_at_the_end(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    """Each finds that the others have positions already: that makes its own partitions no added ones."""
    topics = create_topics(4)
    for partition in range(4):
        produce(kafka_bootstrap, topics.frames, f"old-{partition}", 3, partition)
    settings = settings_for(kafka_bootstrap, topics, start="latest")
    workers = [Worker(settings) for _ in range(3)]
    for worker in workers:
        join(worker)
    late = Worker(settings)
    join(late)
    wait_until(lambda: late.owns_partitions, "a share of the partitions")
    for partition in range(4):
        produce(kafka_bootstrap, topics.frames, f"new-{partition}", 3, partition)
    wait_until(lambda: len(results(kafka_bootstrap, topics)) >= 12, "the last verdict")
    for worker in (*workers, late):
        worker.stop()
    expected: dict[str, int] = {}
    for partition in range(4):
        expected |= parts(f"new-{partition}", 3)
    assert results(kafka_bootstrap, topics) == expected


@pytest.mark.parametrize("start", ["latest", "earliest"])
@pytest.mark.parametrize("new", [3, 20])  # the new topic ends before the worker's position, and behind it
def test_a_topic_made_anew_while_a_worker_runs(
    kafka_bootstrap: str, create_topics: CreateTopics, caplog: pytest.LogCaptureFixture, *, start: str, new: int
) -> None:
    topics = create_topics(1)
    worker = Worker(settings_for(kafka_bootstrap, topics, start=start))
    join(worker)
    produce(kafka_bootstrap, topics.frames, "old", 10)
    wait_until(lambda: worker.delivered >= 10, "the old frames")
    old_id = librdkafka.topic_id(kafka_bootstrap, topics.frames)
    with caplog.at_level(logging.WARNING):
        librdkafka.make_anew(kafka_bootstrap, topics.frames)
        new_id = librdkafka.topic_id(kafka_bootstrap, topics.frames)
        produce(kafka_bootstrap, topics.frames, "new", new)
        expected = parts("old", 10) | parts("new", new)
        wait_until(lambda: set(results(kafka_bootstrap, topics)) == set(expected), "the new frames", FOUND_S)
    worker.stop()
    assert worker.fault is None
    values = librdkafka.values(kafka_bootstrap, topics.verdicts)
    ids = [value["resultId"] for value in values]
    assert len(set(ids)) == len(ids)
    found = {(value["partId"], value["resultId"]) for value in values}
    for name, topic, count in (("old", old_id, 10), ("new", new_id, new)):
        for number in range(count):
            assert (f"part-{name}-{number}", f"{topics.frames}:{topic}:0:{number}") in found


def test_a_topic_made_anew_while_a_worker_is_busy(
    kafka_bootstrap: str, create_topics: CreateTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It did not see that the topic was away, and may read on at its position until it looks the topic up."""
    monkeypatch.setattr("quarterturn.worker.transport.kafka.consumer._LOOK_S", 4.0)
    topics = create_topics(1)
    produce(kafka_bootstrap, topics.frames, "old", 10)
    with closing(KafkaTransport(settings_for(kafka_bootstrap, topics))) as transport:
        transport.deliver(outcomes(poll(transport)))
        librdkafka.make_anew(kafka_bootstrap, topics.frames)
        produce(kafka_bootstrap, topics.frames, "new", 20)
        topic_id = librdkafka.topic_id(kafka_bootstrap, topics.frames)
        new = {(f"part-new-{n}", f"{topics.frames}:{topic_id}:0:{n}") for n in range(20)}

        def inspected() -> list[tuple[str, str]]:
            with suppress(RewoundError):
                if frames := transport.poll(10, 0.1):
                    transport.deliver(outcomes(frames))
            return [(v["partId"], v["resultId"]) for v in librdkafka.values(kafka_bootstrap, topics.verdicts)]

        wait_until(lambda: new <= set(inspected()), "the new frames", FOUND_S)
        found = inspected()
    assert len({result_id for _, result_id in found}) == len(found)


@pytest.mark.parametrize("start", ["latest", "earliest"])
@pytest.mark.parametrize("new", [3, 20])
def test_a_worker_that_starts_on_a_topic_made_anew(
    kafka_bootstrap: str, create_topics: CreateTopics, caplog: pytest.LogCaptureFixture, *, start: str, new: int
) -> None:
    """A position that survived its topic, as one does that a worker committed in between, means nothing in the next."""
    topics = create_topics(1)
    settings = settings_for(kafka_bootstrap, topics, start=start)
    produce(kafka_bootstrap, topics.frames, "old", 10)
    old_id = librdkafka.topic_id(kafka_bootstrap, topics.frames)
    librdkafka.make_anew(kafka_bootstrap, topics.frames)
    new_id = librdkafka.topic_id(kafka_bootstrap, topics.frames)
    produce(kafka_bootstrap, topics.frames, "new", new)
    librdkafka.commit(kafka_bootstrap, settings.group, topics.frames, 10, f"topic={old_id} partitions=1")
    with caplog.at_level(logging.WARNING):
        inspect(settings, new)
    assert results(kafka_bootstrap, topics) == parts("new", new)
    ids = {value["resultId"] for value in librdkafka.values(kafka_bootstrap, topics.verdicts)}
    assert ids == {f"{topics.frames}:{new_id}:0:{number}" for number in range(new)}
    assert f"{topics.frames}[0]@10: the topic was deleted and made anew" in caplog.text
    assert len(caplog.messages) == 1


def test_a_worker_that_starts_after_its_topic_was_made_anew(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    settings = settings_for(kafka_bootstrap, topics)
    produce(kafka_bootstrap, topics.frames, "old", 10)
    inspect(settings, 10)
    librdkafka.make_anew(kafka_bootstrap, topics.frames)
    produce(kafka_bootstrap, topics.frames, "new", 20)
    inspect(settings, 20)
    assert results(kafka_bootstrap, topics) == parts("old", 10) | parts("new", 20)
    ids = [value["resultId"] for value in librdkafka.values(kafka_bootstrap, topics.verdicts)]
    assert len(set(ids)) == 30


def test_a_position_of_an_older_version_is_continued(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    settings = settings_for(kafka_bootstrap, topics, start="latest")
    produce(kafka_bootstrap, topics.frames, "one", 5)
    librdkafka.commit(kafka_bootstrap, settings.group, topics.frames, 2, "")
    with closing(KafkaTransport(settings)) as transport:
        assert [frame.position.offset for frame in poll(transport)] == [2, 3, 4]


def test_a_position_beyond_the_end_is_told_of(
    kafka_bootstrap: str, create_topics: CreateTopics, caplog: pytest.LogCaptureFixture
) -> None:
    topics = create_topics(1)
    settings = settings_for(kafka_bootstrap, topics, start="latest")
    produce(kafka_bootstrap, topics.frames, "one", 5)
    librdkafka.commit(kafka_bootstrap, settings.group, topics.frames, 50, "")
    with closing(KafkaTransport(settings)) as transport:
        assert [frame.position.offset for frame in poll(transport)] == [0, 1, 2, 3, 4]
    assert f"{topics.frames}[0]@50: there are frames up to 5 only" in caplog.text


def test_frames_that_retention_deletes_under_a_running_worker_are_counted(
    kafka_bootstrap: str, create_topics: CreateTopics, caplog: pytest.LogCaptureFixture
) -> None:
    topics = create_topics(1)
    settings = settings_for(kafka_bootstrap, topics)
    large = 9 * 2**20  # more than is fetched ahead of one partition
    librdkafka.produce(kafka_bootstrap, topics.frames, [bytes(large)] * 6)
    seen: list[Frame] = []
    inspected = 0
    with closing(KafkaTransport(settings)) as transport:
        first = poll(transport, 1)
        transport.deliver(outcomes(first))
        librdkafka.delete_before(kafka_bootstrap, topics.frames, 5)
        while not seen or seen[-1].position.offset < 5:
            seen = poll(transport, 1)
            if seen[0].position.offset < 5:  # fetched before it was deleted
                transport.deliver(outcomes(seen))
                inspected = seen[0].position.offset
    assert f"{topics.frames}[0]@{inspected + 1}: retention deleted {4 - inspected} frames" in caplog.text
