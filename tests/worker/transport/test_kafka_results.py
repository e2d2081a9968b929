"""The topics of results on a real broker, where others may write, too."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

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
