"""What a Kafka transport says of itself, while it joins, shares, waits, and while the broker is silent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from kafka.admin import KafkaAdminClient, MemberToRemove

from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.settings.worker import KafkaSettings, Topics
from quarterturn.worker.transport.base import RewoundError
from quarterturn.worker.transport.kafka.topics import create_topics
from quarterturn.worker.transport.kafka.transport import KafkaTransport
from tests import examples, services
from tests.worker.transport import librdkafka


@pytest.fixture
def settings(broker: services.Broker, request: pytest.FixtureRequest) -> KafkaSettings:
    name = request.node.name.replace("[", "-").replace("]", "")[:60]
    topics = Topics(**{field: f"{name}-{field.replace('_', '-')}" for field in Topics.model_fields})
    settings = KafkaSettings(bootstrap_servers=broker.bootstrap, topics=topics, group=name, session_timeout_s=6)
    create_topics(settings, 2)
    return settings


def until(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> float:
    """Seconds until it was so."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < timeout_s, f"{what} took longer than {timeout_s:g} s"
        time.sleep(0.02)
    return time.monotonic() - began_s


def join(transport: KafkaTransport) -> None:
    until(lambda: transport.poll(10, 0.1) == [] and transport.standing.state == "ok", "joining the group")


def poll(transport: KafkaTransport) -> list[Frame]:
    frames: list[Frame] = []
    until(lambda: bool(frames.extend(transport.poll(10, 0.2)) or frames), "the next frame")
    return frames


def test_it_says_which_share_it_has(settings: KafkaSettings) -> None:
    with closing(KafkaTransport(settings)) as first:
        before = first.standing
        assert (before.name, before.assigned) == ("Kafka", None)
        assert before.state == f"waiting for the group '{settings.group}' to take this worker in"
        join(first)
        assert first.standing.assigned == 2
        with (
            closing(KafkaTransport(settings)) as second,
            closing(KafkaTransport(settings)) as third,
            ThreadPoolExecutor(3) as together,  # one by one, each would stay in its poll for the others to join
        ):
            workers = (first, second, third)

            def shares() -> list[int]:
                list(together.map(lambda worker: worker.poll(10, 0.05), workers))
                return sorted(-1 if (n := worker.standing.assigned) is None else n for worker in workers)

            until(lambda: shares() == [0, 1, 1], "sharing two partitions among three")
            assert [worker.standing.state for worker in workers] == ["ok"] * 3  # also of the one that stands by


def test_who_falls_out_of_the_group_says_so(settings: KafkaSettings, broker: services.Broker) -> None:
    with closing(KafkaTransport(settings)) as transport:
        join(transport)
        held = librdkafka.produce(broker.bootstrap, settings.topics.frames, [b"good"])
        frames = poll(transport)
        with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
            members = admin.describe_groups([settings.group])[settings.group]["members"]
            admin.remove_group_members(settings.group, [MemberToRemove(one["member_id"]) for one in members])
        with pytest.raises(RewoundError):
            transport.deliver([examples.outcome(frame) for frame in frames])
        assert transport.standing.assigned is None
        assert transport.standing.state.startswith("waiting for the group"), held
        join(transport)


def test_who_hangs_and_is_given_up_says_so(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarterturn.worker.transport.kafka.consumer._AWAY_S", 2.0)
    brief = settings.model_copy(update={"session_timeout_s": 2.0})
    with closing(KafkaTransport(brief)) as hanging:
        join(hanging)
        assert hanging.standing.state == "ok"
        until(lambda: hanging.standing.state.startswith(f"given up by the group '{brief.group}'"), "saying so", 5.0)
        join(hanging)


def test_it_says_how_many_frames_wait(
    settings: KafkaSettings, broker: services.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarterturn.worker.transport.kafka.exchange._LAG_S", 0.0)
    topic = settings.topics.frames
    for partition, count in ((0, 30), (1, 7)):
        librdkafka.produce(broker.bootstrap, topic, [b"good"] * count, partition)
    left = {f"{topic}[0]": 30, f"{topic}[1]": 7}
    with closing(KafkaTransport(settings)) as transport:
        while any(left.values()):
            for frame in poll(transport):
                left[f"{topic}[{frame.position.partition}]"] -= 1
            known = transport.standing.lag
            assert known == {partition: left[partition] for partition in known}
        until(lambda: transport.poll(10, 0.05) == [] and transport.standing.lag == left, "knowing both partitions")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_silent_broker_shows(
    settings: KafkaSettings, broker: services.Broker, busy: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(KafkaTransport(settings)) as transport:
        join(transport)
        frames: list[Frame] = []
        if busy:
            librdkafka.produce(broker.bootstrap, settings.topics.frames, [b"good"])
            frames = poll(transport)
        done = threading.Event()

        def work() -> None:
            try:
                if frames:
                    transport.deliver([examples.outcome(frame) for frame in frames])
            except RewoundError:
                pass
            while not done.is_set():
                transport.poll(10, 0.2)

        worker = threading.Thread(target=work)
        with caplog.at_level(logging.INFO):
            broker.freeze()
            try:
                worker.start()
                until(lambda: transport.standing.state != "ok", "seeing that the broker is silent")
                until(lambda: f"Kafka at {broker.bootstrap}: " in caplog.text, "saying so")
            finally:
                broker.thaw()
            until(lambda: transport.standing.state == "ok", "seeing that it is back", timeout_s=40)
            done.set()
            worker.join(20)
        assert [record.levelname for record in caplog.records].count("WARNING") == 1
        assert "Kafka works again after" in caplog.text


def test_a_long_wait_for_the_group_is_said_once(
    settings: KafkaSettings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarterturn.worker.transport.kafka.contact._SILENT_S", 0.3)
    monkeypatch.setattr("quarterturn.worker.transport.kafka.consumer._AWAY_S", 4.0)
    with closing(KafkaTransport(settings)) as hanging:  # it beats on, and does not poll
        join(hanging)
        with caplog.at_level(logging.INFO), closing(KafkaTransport(settings)) as joining:
            join(joining)
            said = [record.message for record in caplog.records if "still waiting to be taken in" in record.message]
            assert len(said) == 1
            assert f"group {settings.group}" in said[0]
            assert f"group {settings.group}: generation" in caplog.text  # and when it has joined


def test_leaving_from_another_thread_empties_the_group_at_once(
    settings: KafkaSettings, broker: services.Broker
) -> None:
    slow = settings.model_copy(update={"session_timeout_s": 60.0})
    transport = KafkaTransport(slow)
    transport.leave()  # not a member yet: nothing to do
    join(transport)
    leaving = threading.Thread(target=transport.leave)
    leaving.start()
    leaving.join(10)
    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        assert admin.describe_groups([slow.group])[slow.group]["members"] == []
    transport.close()


def test_giving_up_says_for_how_long_it_tried(settings: KafkaSettings, broker: services.Broker) -> None:
    brief = settings.model_copy(update={"give_up_after_s": 0.5})
    with closing(KafkaTransport(brief)) as transport:
        join(transport)
        broker.freeze()
        try:
            with pytest.raises(UnavailableError, match=f"Kafka at {broker.bootstrap}: .*after trying for"):
                until(lambda: bool(transport.poll(1, 0.2)), "giving up")
        finally:
            broker.thaw()
