"""The topics of results on a real broker, where others may write, too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

import pytest
from kafka import KafkaConsumer
from kafka.errors import KafkaTimeoutError

from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.settings.worker import Topics
from quarterturn.worker.transport.kafka.results import ResultReader
from tests.worker.transport import librdkafka
from tests.worker.transport.workers import settings_for, wait_until

CreateTopics = Callable[[int], Topics]
NO_RESULTS = [b"no JSON", b"", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000]


def test_what_is_no_result_is_left_out(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    librdkafka.produce(kafka_bootstrap, topics.verdicts, [*NO_RESULTS, b'{"resultId": "frames:0:7"}'])
    with closing(ResultReader(settings_for(kafka_bootstrap, topics), None)) as reader:
        assert list(reader.until_now()) == [{"resultId": "frames:0:7"}]
        librdkafka.produce(kafka_bootstrap, topics.dead_letters, [*NO_RESULTS, b'{"resultId": "frames:0:8"}'])
        found: list[dict[str, object]] = []
        wait_until(lambda: bool(found.extend(reader.poll(0.2)) or found), "the dead letter")
        assert found == [{"resultId": "frames:0:8"}]


def test_a_reader_goes_on_where_retention_overtook_it(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    librdkafka.produce(kafka_bootstrap, topics.verdicts, [b'{"n": 0}', b'{"n": 1}'])
    with closing(ResultReader(settings_for(kafka_bootstrap, topics), None)) as reader:
        assert list(reader.until_now()) == [{"n": 0}, {"n": 1}]
        librdkafka.produce(kafka_bootstrap, topics.verdicts, [b'{"n": %d}' % n for n in range(2, 9)])
        librdkafka.delete_before(kafka_bootstrap, topics.verdicts, 6)
        assert list(reader.until_now()) == [{"n": 6}, {"n": 7}, {"n": 8}]


def test_a_reading_that_cannot_begin_leaves_nothing_open(
    kafka_bootstrap: str, create_topics: CreateTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(kafka_bootstrap, create_topics(1))

    def no_leader(*_: object) -> None:
        raise KafkaTimeoutError("no leader")

    monkeypatch.setattr(KafkaConsumer, "beginning_offsets", no_leader)
    before = threading.enumerate()
    with pytest.raises(UnavailableError, match="no leader"):
        ResultReader(settings, None)
    assert threading.enumerate() == before
