"""Kafka alone: rebalancing, fencing, outages, faults at the start. Everything here asks a real broker."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka.admin import AdminClient
from kafka.admin import KafkaAdminClient, MemberToRemove
from kafka.errors import KafkaConnectionError, KafkaTimeoutError

from quarterturn.worker.contract.errors import ConfigError, UnavailableError
from quarterturn.worker.settings.worker import Topics
from quarterturn.worker.transport.base import RewoundError
from quarterturn.worker.transport.kafka import connection
from quarterturn.worker.transport.kafka.consumer import Member
from quarterturn.worker.transport.kafka.producer import FramePublisher
from quarterturn.worker.transport.kafka.results import ResultReader
from quarterturn.worker.transport.kafka.topics import create_topics
from quarterturn.worker.transport.kafka.transport import KafkaTransport
from tests import services
from tests.worker.transport import librdkafka
from tests.worker.transport.workers import (
    Camera,
    Worker,
    assert_exactly_once,
    outcomes,
    poll,
    settings_for,
    wait_for_both,
    wait_until,
)

CreateTopics = Callable[[int], Topics]


def test_publishes_cloud_events_that_their_sdk_reads(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    topic_id = librdkafka.topic_id(kafka_bootstrap, topics.frames)
    librdkafka.produce(kafka_bootstrap, topics.frames, [b"defect", b"broken"], key=b"top-01")
    with closing(KafkaTransport(settings_for(kafka_bootstrap, topics))) as transport:
        for _ in range(2):
            transport.deliver(outcomes(poll(transport, 1)))

    for topic, kind, frame in [
        (topics.verdicts, "verdict", 0),
        (topics.alerts, "alert", 0),
        (topics.dead_letters, "dead_letter", 1),
    ]:
        (record,) = librdkafka.consume(kafka_bootstrap, topic)
        event = from_binary(KafkaMessage(dict(record.headers()), record.key(), record.value()), JSONFormat())
        assert record.key() == b"top-01"
        assert event.get_type() == f"quarterturn.{kind}.v1"
        assert event.get_id() == f"{kind}:{topics.frames}:{topic_id}:0:{frame}"
        assert event.get_source() == "/quarterturn/line-3/top-01"
        assert event.get_time() is not None
        assert event.get_data()["frame"] == {
            "topic": topics.frames,
            "partition": 0,
            "offset": frame,
            "topicId": topic_id,
            "capturedAt": None,
        }


def test_reads_frames_of_any_shape(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    large = bytes(9 * 2**20)  # more than is fetched ahead of one partition
    librdkafka.produce(kafka_bootstrap, topics.frames, [b"", large], key=None)
    with closing(KafkaTransport(settings_for(kafka_bootstrap, topics))) as transport:
        frames = poll(transport, 1) + poll(transport, 1)

    assert [(frame.position.offset, len(frame.data)) for frame in frames] == [(0, 0), (1, len(large))]
    assert frames[0].key is None
    assert frames[0].info().camera == "top-01"


def test_a_frame_that_comes_while_nobody_looks_is_not_slept_beside(
    kafka_bootstrap: str, create_topics: CreateTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking for records and asking for more, where kafka-python neither finds it nor waits for it."""
    topics = create_topics(1)
    with closing(KafkaTransport(settings_for(kafka_bootstrap, topics))) as transport:
        librdkafka.produce(kafka_bootstrap, topics.frames, [b"good"])
        poll(transport)
        fetcher = transport._consumer._consumer._fetcher
        send_fetches, slept = fetcher.send_fetches, list[float]()

        def arrived() -> bool:
            if not fetcher.in_flight_fetches():
                send_fetches()  # the one before came back empty
            return bool(fetcher._completed_fetches)

        def late() -> object:
            if not slept:
                librdkafka.produce(kafka_bootstrap, topics.frames, [b"good"])
                wait_until(arrived, "the frame's arrival")
                slept.append(0)  # once is enough
            return send_fetches()

        monkeypatch.setattr(fetcher, "send_fetches", late)
        monkeypatch.setattr("kafka.consumer.group.time", SimpleNamespace(sleep=slept.append, monotonic=time.monotonic))
        assert [frame.position.offset for frame in poll(transport)] == [1]
    assert slept == [0]


def test_frames_that_a_failed_poll_took_out_come_again(
    kafka_bootstrap: str, create_topics: CreateTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kafka-python takes them out of its buffer, asks for more, and drops them where it cannot ask."""
    topics = create_topics(1)
    with closing(KafkaTransport(settings_for(kafka_bootstrap, topics))) as transport:
        librdkafka.produce(kafka_bootstrap, topics.frames, [b"good"])
        transport.deliver(outcomes(poll(transport)))
        fetcher = transport._consumer._consumer._fetcher
        librdkafka.produce(kafka_bootstrap, topics.frames, [b"good"] * 3)
        wait_until(lambda: fetcher.send_fetches() == [] and bool(fetcher._completed_fetches), "the frames' arrival")

        def refused() -> None:
            monkeypatch.undo()
            raise KafkaConnectionError("the password was changed")

        monkeypatch.setattr(fetcher, "send_fetches", refused)
        found = poll(transport)
        while len(found) < 3:
            found += poll(transport)
        assert [frame.position.offset for frame in found] == [1, 2, 3]
        transport.deliver(outcomes(found))
    assert [data["frame"]["offset"] for data in librdkafka.values(kafka_bootstrap, topics.verdicts)] == [0, 1, 2, 3]


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_who_cannot_begin_a_generation_delivers_nothing_of_the_one_before(
    kafka_bootstrap: str, create_topics: CreateTopics, monkeypatch: pytest.MonkeyPatch, delivery: str
) -> None:
    topics = create_topics(1)
    settings = settings_for(kafka_bootstrap, topics, delivery=delivery)
    librdkafka.produce(kafka_bootstrap, topics.frames, [b"good"] * 2)
    with closing(KafkaTransport(settings)) as transport:
        held = poll(transport)

        def unanswered() -> None:
            raise KafkaTimeoutError("no answer")

        monkeypatch.setattr(transport._consumer, "go_to_committed", unanswered)
        remove_members(kafka_bootstrap, settings.group)
        before = transport._consumer._member()
        wait_until(
            lambda: transport.poll(10, 0.1) == [] and _is_later(transport._consumer._member(), before), "joining"
        )
        with pytest.raises(RewoundError):
            transport.deliver(outcomes(held))
        monkeypatch.undo()
        assert [frame.position.offset for frame in poll(transport)] == [0, 1]


def _is_later(now: Member, before: Member) -> bool:
    return now.generation > 0 and now != before


def test_every_frame_exactly_once_while_workers_come_and_go(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(4)
    settings = settings_for(kafka_bootstrap, topics)
    camera = Camera(kafka_bootstrap, topics.frames, 4)
    first = Worker(settings)
    wait_until(lambda: first.delivered > 20, "the first worker's start")
    for _ in range(2):
        joining = Worker(settings)
        wait_for_both(first, joining)
        joining.stop()
    last = Worker(settings)
    wait_for_both(first, last)
    first.stop()
    published = camera.stop()

    assert_exactly_once(kafka_bootstrap, topics, published)
    last.stop()
    assert first.fault is None
    assert last.fault is None
    verdicts = librdkafka.values(kafka_bootstrap, topics.verdicts)
    for partition in range(4):
        offsets = [v["frame"]["offset"] for v in verdicts if v["frame"]["partition"] == partition]
        assert offsets == sorted(offsets)


def test_slow_workers_settle_without_detours(
    kafka_bootstrap: str, create_topics: CreateTopics, caplog: pytest.LogCaptureFixture
) -> None:
    """kafka-python forgets a rebalance that ends between two polls, and asks for another: slow workers meet that."""
    topics = create_topics(3)
    settings = settings_for(kafka_bootstrap, topics)
    for partition in range(3):
        librdkafka.produce(kafka_bootstrap, topics.frames, [b"good"] * 400, partition)
    with caplog.at_level(logging.INFO, logger="quarterturn.worker.transport.kafka"):
        workers = [Worker(settings, pause_s=0.2) for _ in range(3)]
        wait_until(lambda: all(worker.delivered > 40 for worker in workers), "sharing the partitions")
    for worker in workers:
        worker.stop()

    generations = [int(number) for number in re.findall(r"generation (\d+)", caplog.text)]
    assert max(generations) <= len(workers)


def test_the_group_gives_up_a_member_that_hangs(
    kafka_bootstrap: str, create_topics: CreateTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It beats on, so its session never ends; by kafka-python's default the others would wait for five minutes."""
    monkeypatch.setattr("quarterturn.worker.transport.kafka.consumer._AWAY_S", 3.0)
    topics = create_topics(1)
    settings = settings_for(kafka_bootstrap, topics, session_timeout_s=3)
    with closing(KafkaTransport(settings)) as hanging:
        librdkafka.produce(kafka_bootstrap, topics.frames, [b"good"])
        assert poll(hanging)
        with closing(KafkaTransport(settings)) as other:
            assert [frame.position.offset for frame in poll(other)] == [0]


def test_the_broker_refuses_a_member_that_was_expelled(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    settings = settings_for(kafka_bootstrap, topics)
    librdkafka.produce(kafka_bootstrap, topics.frames, [b"good", b"good", b"defect"])
    with closing(KafkaTransport(settings)) as expelled:
        held = poll(expelled)
        remove_members(kafka_bootstrap, settings.group)
        with closing(KafkaTransport(settings)) as successor:
            successor.deliver(outcomes(poll(successor)))
            with pytest.raises(RewoundError):
                expelled.deliver(outcomes(held))
    verdicts = librdkafka.values(kafka_bootstrap, topics.verdicts)
    assert [verdict["frame"]["offset"] for verdict in verdicts] == [0, 1, 2]
    assert len(librdkafka.consume(kafka_bootstrap, topics.alerts)) == 1


def remove_members(bootstrap: str, group: str) -> None:
    """Expel every member of the group, as the coordinator does with those it has not heard of for too long."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    members = admin.describe_groups([group])[group]["members"]
    admin.remove_group_members(group, [MemberToRemove(member["member_id"]) for member in members])
    admin.close()


@pytest.mark.parametrize(("start", "expected"), [("earliest", [0, 1, 2]), ("latest", [2])])
def test_a_group_without_positions_starts_where_it_should(
    kafka_bootstrap: str, create_topics: CreateTopics, start: str, expected: list[int]
) -> None:
    topics = create_topics(1)
    settings = settings_for(kafka_bootstrap, topics, start=start)
    librdkafka.produce(kafka_bootstrap, topics.frames, [b"old", b"old"])
    with closing(KafkaTransport(settings)) as transport:
        wait_until(lambda: transport.poll(10, 0.1) == [] and transport.joined, "joining the group")
    librdkafka.produce(kafka_bootstrap, topics.frames, [b"new"])  # nobody is there, but the group has begun
    with closing(KafkaTransport(settings)) as transport:
        assert [frame.position.offset for frame in poll(transport)] == expected


def test_frames_that_retention_deleted_are_counted(
    kafka_bootstrap: str, create_topics: CreateTopics, caplog: pytest.LogCaptureFixture
) -> None:
    topics = create_topics(1)
    settings = settings_for(kafka_bootstrap, topics)
    librdkafka.produce(kafka_bootstrap, topics.frames, [b"good"] * 10)
    with closing(KafkaTransport(settings)) as transport:
        transport.deliver(outcomes(poll(transport, 2)))
    librdkafka.delete_before(kafka_bootstrap, topics.frames, 7)
    with closing(KafkaTransport(settings)) as transport:
        assert [frame.position.offset for frame in poll(transport)] == [7, 8, 9]

    assert f"{topics.frames}[0]@2: retention deleted 5 frames that were not inspected" in caplog.text


def test_a_missing_topic_is_named_with_the_command_that_creates_it(
    kafka_bootstrap: str, create_topics: CreateTopics
) -> None:
    topics = create_topics(1).model_copy(update={"alerts": "no-such-topic"})
    expected = (
        f"no topic 'no-such-topic'; create it with: kafka-topics.sh --bootstrap-server {kafka_bootstrap} --create"
    )
    with pytest.raises(ConfigError, match=expected):
        KafkaTransport(settings_for(kafka_bootstrap, topics))
    frames = topics.model_copy(update={"frames": "no-such-topic"})
    configs = "--config compression.type=uncompressed --config max.message.bytes=66536"
    for opening in (FramePublisher, KafkaTransport):
        with pytest.raises(ConfigError, match=f"{expected}.* {configs}$"):
            opening(settings_for(kafka_bootstrap, frames, max_frame_bytes=1000))


def test_topics_are_created_once(kafka_bootstrap: str) -> None:
    topics = Topics(**{field: f"made-{field.replace('_', '-')}" for field in Topics.model_fields})
    for partitions in (3, 5):
        create_topics(settings_for(kafka_bootstrap, topics), partitions)

    known = AdminClient({"bootstrap.servers": kafka_bootstrap, "log_level": 2}).list_topics(timeout=10)
    assert [len(known.topics[name].partitions) for name in topics.model_dump().values()] == [3, *[1] * 6]
    assert librdkafka.config(kafka_bootstrap, topics.feedback, "cleanup.policy") == "compact"
    assert librdkafka.config(kafka_bootstrap, topics.frames, "compression.type") == "uncompressed"
    assert int(librdkafka.config(kafka_bootstrap, topics.frames, "max.message.bytes")) > 32 * 2**20


def test_what_no_waiting_cures_is_said_at_once(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    settings = settings_for(kafka_bootstrap, create_topics(1), session_timeout_s=0.3)  # no broker allows so little
    with (
        closing(KafkaTransport(settings)) as transport,
        pytest.raises(
            UnavailableError, match=f"Kafka at {kafka_bootstrap}: .*InvalidSessionTimeout.*after trying for 0 s"
        ),
    ):
        poll(transport)


def test_a_camera_publishes_in_order(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(3)
    with closing(FramePublisher(settings_for(kafka_bootstrap, topics))) as publisher:
        for number in range(100):
            publisher.publish(b"top-%d" % (number % 2), {"camera": "Prüfstand"}, b"%d" % number)
        publisher.flush()

    records = librdkafka.consume(kafka_bootstrap, topics.frames)
    for key, expected in (b"top-0", range(0, 100, 2)), (b"top-1", range(1, 100, 2)):
        assert [int(record.value()) for record in records if record.key() == key] == list(expected)
    assert records[0].headers() == [("camera", "Prüfstand".encode())]


def test_a_frame_that_is_too_large_is_one_sentence(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    with (
        closing(FramePublisher(settings_for(kafka_bootstrap, topics, max_frame_bytes=1000))) as publisher,
        pytest.raises(UnavailableError, match=f"a frame was not stored in '{topics.frames}' .*message.max.bytes"),
    ):
        publisher.publish(b"top-01", {}, bytes(100_000))


def test_a_reader_gets_new_and_committed_results(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    settings = settings_for(kafka_bootstrap, topics)
    librdkafka.produce(kafka_bootstrap, topics.frames, [b"good", b"defect", b"broken"])
    with closing(KafkaTransport(settings)) as transport:
        transport.deliver(outcomes(poll(transport, 1)))
        with closing(ResultReader(settings)) as reader:
            transport.deliver(outcomes(poll(transport, 2)))
            results: list[dict[str, object]] = []
            wait_until(lambda: bool(results.extend(reader.poll(0.2)) or len(results) >= 2), "the results")

    topic = f"{topics.frames}:{librdkafka.topic_id(kafka_bootstrap, topics.frames)}"
    assert {result["resultId"] for result in results} == {f"{topic}:0:1", f"{topic}:0:2"}


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nobody.invalid:9092", "127.0.0.1:not-a-port"])
def test_an_unreachable_broker_is_one_sentence(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(connection, "ANSWER_S", 0.5)
    with pytest.raises(
        UnavailableError, match=f"Kafka at {address} cannot be used .*correct 'bootstrap_servers', 'tls', 'sasl' or"
    ):
        KafkaTransport(settings_for(address, Topics()))


def test_a_killed_worker_leaves_no_trace_of_its_transaction(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    settings = settings_for(kafka_bootstrap, topics, session_timeout_s=3)
    librdkafka.produce(kafka_bootstrap, topics.frames, [b"defect", b"defect", b"good", b"good"])
    script = f"""
        import os, signal, time
        from tests import examples
        from quarterturn.worker.settings.worker import KafkaSettings
        from quarterturn.worker.transport.kafka import connection, transactions
        from quarterturn.worker.transport.kafka.transport import KafkaTransport

        connection.ANSWER_S = 3.0
        transport = KafkaTransport(KafkaSettings.model_validate_json({settings.model_dump_json()!r}))
        for last in (False, True):
            while not (frames := transport.poll(2, 0.5)):
                pass
            if last:  # everything is sent, only the commit is missing
                transactions.Transactions.commit = lambda _: os.kill(os.getpid(), signal.SIGKILL)
            transport.deliver([examples.outcome(frame) for frame in frames])
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    killed = subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert len(librdkafka.consume(kafka_bootstrap, topics.verdicts)) == 2

    with closing(KafkaTransport(settings)) as transport:
        frames = poll(transport)
        assert [frame.position.offset for frame in frames] == [2, 3]
        transport.deliver(outcomes(frames))
    assert_exactly_once(kafka_bootstrap, topics, 4)


def test_every_frame_exactly_once_across_an_outage(broker: services.Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_S", 2.0)
    topics = Topics(frames="outage-f", verdicts="outage-v", alerts="outage-a", dead_letters="outage-d")
    settings = settings_for(broker.bootstrap, topics)
    create_topics(settings, 2)
    frames = [b"good", b"defect"] * 100
    for partition in range(2):
        librdkafka.produce(broker.bootstrap, topics.frames, frames, partition)
    worker = Worker(settings)
    wait_until(lambda: worker.delivered > 40, "the start")
    broker.kill()
    wait_until(lambda: worker.rewinds > 0, "noticing the outage")
    broker.start()

    wait_until(lambda: worker.delivered >= 390, "going on after the outage")
    assert_exactly_once(broker.bootstrap, topics, 400)
    worker.stop()
    assert worker.fault is None


def test_gives_up_when_the_broker_stays_silent(broker: services.Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarterturn.worker.transport.kafka.exchange._PROBE_S", 0.5)
    topics = Topics(frames="gone-f", verdicts="gone-v", alerts="gone-a", dead_letters="gone-d")
    settings = settings_for(broker.bootstrap, topics, give_up_after_s=1)
    create_topics(settings, 1)
    with closing(KafkaTransport(settings)) as transport:
        wait_until(lambda: transport.poll(1, 0.1) == [] and transport.joined, "joining the group")
        broker.freeze()
        began = time.monotonic()
        try:
            with pytest.raises(UnavailableError, match=f"Kafka at {broker.bootstrap}: .*check the broker"):
                wait_until(lambda: bool(transport.poll(1, 0.2)), "giving up", timeout_s=30)
        finally:
            broker.thaw()
        assert time.monotonic() - began < 6
