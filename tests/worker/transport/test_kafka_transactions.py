"""Transactions as they come out at the broker; whatever kills them is in test_kafka.py and chaos/."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from kafka import KafkaAdminClient, OffsetAndMetadata, TopicPartition
from kafka.cluster import ClusterMetadata
from kafka.errors import KafkaError, NotLeaderForPartitionError
from kafka.future import Future
from kafka.net.manager import KafkaConnectionManager
from kafka.protocol.producer import ProduceRequest, ProduceResponse

from quarterturn.worker.settings.worker import KafkaSettings, Topics
from quarterturn.worker.transport.kafka.connection import StaleMemberError
from quarterturn.worker.transport.kafka.consumer import Member
from quarterturn.worker.transport.kafka.outgoing import Record
from quarterturn.worker.transport.kafka.transactions import Transactions
from tests import services
from tests.conftest import topics_at
from tests.worker.transport import librdkafka
from tests.worker.transport.workers import settings_for

ALONE = Member("nobody", -1, "")  # of no group that has members: its positions are taken as they come

TOLD = ["AddOffsetsToTxnRequest", "AddPartitionsToTxnRequest"]  # what a broker with transactions of the first kind is
STORED = ["EndTxnRequest", "ProduceRequest", "TxnOffsetCommitRequest"]

CreateTopics = Callable[..., Topics]


def make_kind(bootstrap: str, kind: int) -> None:
    """Let the broker do transactions of this kind: 1 as before Kafka 4.0, 2 as since then."""
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        present = admin.describe_features()["transaction.version"]["finalized"][1]
        if kind != present:
            admin.update_features({"transaction.version": ("UPGRADE" if kind > present else "SAFE_DOWNGRADE", kind)})


@pytest.fixture(scope="module")
def older() -> Iterator[str]:
    """A broker whose kind of transactions a test may change."""
    with services.broker() as own:
        yield own.bootstrap


def settings_at(bootstrap: str, create_topics: CreateTopics) -> KafkaSettings:
    topics = create_topics(3)
    for topic in topics.model_dump().values():
        librdkafka.consume(bootstrap, topic)  # its partitions are led by now
    return settings_for(bootstrap, topics, group=ALONE.group)


@pytest.fixture(params=[1, 2])
def kind(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture
def settings(kind: int, request: pytest.FixtureRequest) -> KafkaSettings:
    """Of a broker with transactions of this kind."""
    if kind == 1:
        bootstrap = request.getfixturevalue("older")
        make_kind(bootstrap, 1)
        return settings_at(bootstrap, topics_at(bootstrap))
    return settings_at(request.getfixturevalue("kafka_bootstrap"), request.getfixturevalue("create_topics"))


def positions(settings: KafkaSettings, offset: int) -> dict[TopicPartition, OffsetAndMetadata]:
    return {TopicPartition(settings.topics.frames, 0): OffsetAndMetadata(offset, "", -1)}


def records(topic: str, count: int, size: int = 10, keys: int = 1) -> list[Record]:
    return [Record(topic, b"cam-%d" % (n % keys), b"%08d" % n + bytes(size), [("n", b"%d" % n)]) for n in range(count)]


@pytest.mark.parametrize(("count", "size", "keys"), [(1, 10, 1), (200, 10, 50), (1, 600_000, 1), (40, 50_000, 3)])
def test_whatever_a_batch_holds_is_seen_whole_in_order_and_where_its_key_belongs(
    settings: KafkaSettings, count: int, size: int, keys: int
) -> None:
    topic = settings.topics.frames  # the only one with several partitions
    with closing(Transactions(settings, "whole")) as transactions:
        for n in range(2):
            transactions.transact(records(topic, count, size, keys), positions(settings, n), ALONE)
    found = librdkafka.consume(settings.bootstrap_servers, topic, least=2 * count)
    for key in {record.key for record in records(topic, count, size, keys)}:
        of_key = [record for record in found if record.key() == key]
        assert len({record.partition() for record in of_key}) == 1
        expected = [record.value for record in records(topic, count, size, keys) if record.key == key]
        assert [record.value() for record in of_key] == expected * 2
    assert {record.headers()[0][0] for record in found} == {"n"}
    theirs = librdkafka.producer(settings.bootstrap_servers, partitioner="murmur2_random")
    for number in range(keys):
        theirs.produce(topic, b"theirs", b"cam-%d" % number)
    assert theirs.flush(20) == 0
    places: dict[Any, set[int]] = {}
    for record in librdkafka.consume(settings.bootstrap_servers, topic):
        places.setdefault(record.key(), set()).add(record.partition())
    assert {len(several) for several in places.values()} == {1}


def test_no_journey_too_many_whatever_a_batch_holds(
    settings: KafkaSettings, kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []
    answers: list[Any] = []
    send = KafkaConnectionManager.send

    def counted(self: KafkaConnectionManager, request: Any, **named: Any) -> Any:
        asked.append((type(request).__name__, all(answer.is_done for answer in answers)))
        answers.append(send(self, request, **named))
        return answers[-1]

    topics = settings.topics
    with closing(Transactions(settings, "few")) as transactions:
        monkeypatch.setattr(KafkaConnectionManager, "send", counted)
        batch = [*records(topics.verdicts, 8), *records(topics.alerts, 8), *records(topics.frames, 8, keys=3)]
        transactions.transact(batch, positions(settings, 8), ALONE)
    first = dict(reversed(asked))  # what was asked too early is asked again
    assert sorted(first) == {1: TOLD + STORED, 2: STORED}[kind]
    assert sum(first.values()) == {1: 3, 2: 2}[kind]


def test_what_a_partition_refuses_goes_to_its_new_leader_alone(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker stands for two: one that leads the alerts no more, and, by another number, the one that does now."""
    verdicts, alerts = settings.topics.verdicts, settings.topics.alerts
    elsewhere = 99
    written: list[tuple[bool, str]] = []
    send, update = KafkaConnectionManager.send, ClusterMetadata.request_update
    leader = ClusterMetadata.leader_for_partition
    moved: list[bool] = []

    def sent(self: KafkaConnectionManager, request: Any, node_id: Any = None, **named: Any) -> Any:
        here = node_id != elsewhere
        if not isinstance(request, ProduceRequest):
            return send(self, request, node_id=node_id, **named)
        written.extend((here, topic.name) for topic in request.topic_data)
        refused = [topic for topic in request.topic_data if here and topic.name == alerts]
        request.topic_data = [topic for topic in request.topic_data if topic not in refused]
        answer = send(self, request, node_id=None if not here else node_id, **named)
        request.topic_data += refused
        told = Future()
        answer.add_callback(lambda value: told.success(_refusing(value, refused)))
        answer.add_errback(told.failure)
        return told

    def updated(self: ClusterMetadata) -> Any:
        moved.append(True)
        return update(self)

    def leads(self: ClusterMetadata, partition: TopicPartition) -> Any:
        return elsewhere if moved and partition.topic == alerts else leader(self, partition)

    with closing(Transactions(settings, "moved")) as transactions:
        monkeypatch.setattr(KafkaConnectionManager, "send", sent)
        monkeypatch.setattr(ClusterMetadata, "request_update", updated)
        monkeypatch.setattr(ClusterMetadata, "leader_for_partition", leads)
        transactions.transact([*records(verdicts, 3), *records(alerts, 2)], positions(settings, 1), ALONE)
    assert {*written} == {(True, verdicts), (True, alerts), (False, alerts)}
    assert (True, alerts) not in written[written.index((False, alerts)) :]
    assert len(librdkafka.consume(settings.bootstrap_servers, verdicts, least=3)) == 3
    assert len(librdkafka.consume(settings.bootstrap_servers, alerts, least=2)) == 2


def _refusing(answer: Any, refused: list[Any]) -> Any:
    of_topic = ProduceResponse.TopicProduceResponse
    answer.responses += [
        of_topic(
            name=topic.name,
            partition_responses=[
                of_topic.PartitionProduceResponse(index=one.index, error_code=NotLeaderForPartitionError.errno)
                for one in topic.partition_data
            ],
        )
        for topic in refused
    ]
    return answer


@pytest.mark.parametrize("later", [1, 2])
def test_a_broker_may_change_its_kind_of_transactions(older: str, later: int) -> None:
    """What is under way goes on, or is refused as a whole; the next producer does as the broker does."""
    make_kind(older, 3 - later)
    settings = settings_at(older, topics_at(older))
    stored = 1
    with closing(Transactions(settings, "changed")) as before:
        before.transact(records(settings.topics.verdicts, 1), positions(settings, 1), ALONE)
        make_kind(older, later)
        try:
            before.transact(records(settings.topics.verdicts, 1), positions(settings, 2), ALONE)
            stored += 1
        except KafkaError:
            pass
    with closing(Transactions(settings, "changed")) as after:
        after.transact(records(settings.topics.verdicts, 1), positions(settings, 3), ALONE)
    assert len(librdkafka.consume(older, settings.topics.verdicts, least=stored + 1)) == stored + 1


def test_what_comes_late_of_a_predecessor_is_refused(settings: KafkaSettings) -> None:
    topic = settings.topics.verdicts
    with closing(Transactions(settings, "same")) as before:
        before.transact(records(topic, 1), positions(settings, 1), ALONE)
        with closing(Transactions(settings, "same")) as after:
            with pytest.raises(KafkaError, match=r"Fenced|Epoch"):
                before.transact(records(topic, 5), positions(settings, 2), ALONE)
            after.transact(records(topic, 2), positions(settings, 3), ALONE)
    assert len(librdkafka.consume(settings.bootstrap_servers, topic)) == 3


def test_a_stranger_to_the_group_commits_nothing(settings: KafkaSettings) -> None:
    topic = settings.topics.verdicts
    with closing(Transactions(settings, "stranger")) as transactions, pytest.raises(StaleMemberError):
        transactions.transact(records(topic, 1), positions(settings, 1), Member(ALONE.group, 3, "never-heard-of"))
    with closing(Transactions(settings, "stranger")):
        pass  # ends what was left
    assert librdkafka.consume(settings.bootstrap_servers, topic) == []
