"""examples/events.py, the way from Kafka that the four programs share, by means of the one with a database."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.api.sinks import Feed, verdict_event, wait_for
from tests.conftest import CreateTopics
from tests.services import free_ports


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "results.db")


def count(file: str) -> int:
    with closing(sqlite3.connect(file)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM results").fetchone()[0])
        except sqlite3.OperationalError:  # there is no table yet
            return 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_well_when_it_is_told_to(feed: Feed, file: str, number: signal.Signals) -> None:
    feed.send(verdict_event(0))
    with feed.program("database.py", file) as running:
        feed.wait_until_read()
        assert running.stop(number) == []
    assert count(file) == 1


def test_a_topic_that_is_not_there_is_said(feed: Feed, file: str) -> None:
    with feed.program("database.py", file, topics="verdictz") as running:
        (line,) = running.ended(1)
    assert line.startswith("Kafka: ")
    assert "verdictz" in line


def test_a_kafka_that_is_away_is_said_once(file: str) -> None:
    nowhere = Feed(f"127.0.0.1:{free_ports(1)[0]}", "verdicts")
    with nowhere.program("database.py", file) as running:
        said = running.lines(1)
        time.sleep(1.5)  # for what must not come
        said += running.stop()
    assert len(said) == len(set(said)) <= 2
    assert all(line.startswith("Kafka: ") for line in said)


def test_two_of_a_group_share_the_partitions_and_lose_nothing(
    kafka_bootstrap: str, create_topics: CreateTopics, file: str
) -> None:
    """One comes, and one goes, while results come on both partitions."""
    topic = create_topics(2).frames
    feed = Feed(kafka_bootstrap, topic)
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "log_level": 0})

    def send(first: int) -> None:
        for number in range(first, first + 200):
            event = verdict_event(number)
            producer.produce(topic, event.value, headers=list(event.headers), partition=number % 2)
        producer.flush()

    with feed.program("database.py", file) as first:
        send(0)
        wait_for(lambda: count(file) > 0 or None)
        with feed.program("database.py", file):
            send(200)
            wait_for(lambda: count(file) == 400 or None)
            first.stop()
            send(400)
            wait_for(lambda: count(file) == 600 or None)
