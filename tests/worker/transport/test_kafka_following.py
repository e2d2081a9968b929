"""Results followed without a group: on from where an earlier reading ended, and no further back than asked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from quarterturn.worker.settings.worker import KafkaSettings, Topics
from quarterturn.worker.transport.kafka.following import ResultFollower
from tests.worker.transport import librdkafka

Places = dict[str, int]
CreateTopics = Callable[[int], Topics]


class Told:
    def __init__(self, bootstrap: str, topics: Topics) -> None:
        self.settings = KafkaSettings(bootstrap_servers=bootstrap, topics=topics)

    def publish(self, topic: str, *numbers: int) -> None:
        values = [json.dumps({"n": number}).encode() for number in numbers]
        librdkafka.produce(self.settings.bootstrap_servers, topic, values)

    def read(
        self, count: int, last: int = 1000, places: dict[str, int] | None = None
    ) -> tuple[list[int], dict[str, int]]:
        """Exactly `count` results, and the places after them."""
        found: list[Any] = []
        deadline = time.monotonic() + 20
        with closing(ResultFollower(self.settings, last, places or {})) as follower:
            assert follower.behind() >= count
            while follower.behind() > 0:
                assert time.monotonic() < deadline
                found += follower.poll(0.2)
            assert len(found) == count
            return sorted(one["n"] for one in found), follower.places()


@pytest.fixture
def told(kafka_bootstrap: str, create_topics: CreateTopics) -> Told:
    return Told(kafka_bootstrap, create_topics(2))


def test_all_three_topics_and_then_only_what_is_new(told: Told) -> None:
    topics = told.settings.topics
    for number, topic in enumerate((topics.verdicts, topics.alerts, topics.dead_letters)):
        told.publish(topic, number)
    numbers, places = told.read(3)
    assert numbers == [0, 1, 2]
    told.publish(topics.verdicts, 3, 4)
    assert told.read(2, places=places)[0] == [3, 4]


def test_no_further_back_than_asked_though_it_was_read_longer_ago(told: Told) -> None:
    told.publish(told.settings.topics.verdicts, *range(10))
    _, places = told.read(10)
    told.publish(told.settings.topics.verdicts, *range(10, 20))
    assert told.read(4, last=4, places=places)[0] == [16, 17, 18, 19]
    assert told.read(4, last=4)[0] == [16, 17, 18, 19]


def test_places_of_a_topic_of_that_name_that_was_there_before_mean_nothing(told: Told) -> None:
    told.publish(told.settings.topics.verdicts, *range(5))
    _, places = told.read(5)
    others = {name.replace(":", ":another", 1): offset for name, offset in places.items()}
    assert told.read(5, places=others)[0] == list(range(5))
    with closing(ResultFollower(told.settings, 10, {})) as follower:
        assert follower.knows_any_of(places)
        assert not follower.knows_any_of(others)


def test_where_the_frames_topic_ends(told: Told) -> None:
    told.publish(told.settings.topics.frames, 1, 2, 3)
    with closing(ResultFollower(told.settings, 10, {})) as follower:
        assert follower.frames() == {0: 3, 1: 0}
