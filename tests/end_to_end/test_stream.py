"""Frames through a real Kafka, banks through a real Redis, workers as processes that come, go and are told to stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from quarterturn.worker.contract.bank import read_bank
from quarterturn.worker.settings.worker import Topics
from tests.conftest import CreateTopics
from tests.lines import MadeLine, quarterturn
from tests.parts import good_part, png
from tests.worker.transport import librdkafka

CAMERAS = ("top-01", "top-02", "side-01")
TIMEOUT_S = 90.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {TIMEOUT_S:g} s for: {what}"
        time.sleep(0.05)


class Results:
    """All committed outcomes, followed by an independent client in a thread."""

    def __init__(self, bootstrap: str, topics: Topics) -> None:
        self.messages: dict[str, list[Message]] = {topics.verdicts: [], topics.alerts: [], topics.dead_letters: []}
        self._topics = topics
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, args=(bootstrap,))

    @property
    def count(self) -> int:
        return len(self.messages[self._topics.verdicts]) + len(self.messages[self._topics.dead_letters])

    def _follow(self, bootstrap: str) -> None:
        options = {"group.id": "test", "isolation.level": "read_committed", "auto.offset.reset": "earliest"}
        consumer = Consumer({"bootstrap.servers": bootstrap, **options})
        consumer.assign([TopicPartition(topic, 0, 0) for topic in self.messages])
        while not self._stop.is_set():
            for message in consumer.consume(100, timeout=0.2):
                assert message.error() is None, message.error()
                self.messages[message.topic()].append(message)
        consumer.close()

    def __enter__(self) -> Results:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def worker(config: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """`quarterturn run` in a process of its own; the block is entered once it has joined the consumer group."""
    log = config.with_name(f"{name}.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "quarterturn", "run", "--config", str(config)], stdout=output, stderr=output
        )
    try:
        wait_until(lambda: "generation" in log.read_text() or process.poll() is not None, f"{name} to join the group")
        yield process
    finally:
        process.kill()
        process.wait()
        print(f"--- {name}\n{log.read_text()}")  # pytest shows it beside a failure


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


class Cameras(threading.Thread):
    """Every camera's frames to its own partition, a corrupt one among every ten, at a steady pace until stopped."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(daemon=True)
        self._servers, self._topic = bootstrap, topic
        self._enough = threading.Event()
        self._each = 0

    def run(self) -> None:
        rng = np.random.default_rng(5)
        producer = Producer({"bootstrap.servers": self._servers, "log_level": 0})
        while not self._enough.wait(0.05):
            for partition, camera in enumerate(CAMERAS):
                data = png(good_part(rng, "ring"))
                producer.produce(
                    self._topic,
                    value=data[: len(data) // 2] if self._each % 10 == 3 else data,
                    key=camera,
                    partition=partition,
                    headers={"camera": camera, "product": "ring", "part_id": f"{camera}-{self._each}"},
                )
            assert producer.flush(20) == 0
            self._each += 1

    def close(self) -> None:
        """Send no more."""
        self._enough.set()
        if self.is_alive():
            self.join()

    def stop(self) -> int:
        """How many frames there are of each camera."""
        self.close()
        return self._each


def test_every_frame_has_exactly_one_outcome(
    line: MadeLine, kafka_bootstrap: str, redis_url: str, create_topics: CreateTopics, tmp_path: Path
) -> None:
    topics = create_topics(len(CAMERAS))
    config = tmp_path / "worker.yaml"
    settings = {
        "line": tmp_path.name,
        "engine": {"path": str(line.engine), "threads": 1},
        "bank": {"redis": {"url": redis_url, "snapshot": str(tmp_path / "banks")}},
        "transport": {
            "kafka": {
                "bootstrap_servers": kafka_bootstrap,
                "group": tmp_path.name,
                "topics": topics.model_dump(),
                "session_timeout_s": 10,
            }
        },
        "overkill": 0.05,
        "batch": {"max_frames": 8},
        "http": None,
    }
    config.write_text(yaml.safe_dump(settings))
    quarterturn("bank", "push", str(line.banks[0]), "--config", str(config))

    with closing(Cameras(kafka_bootstrap, topics.frames)) as cameras, Results(kafka_bootstrap, topics) as results:
        with worker(config, "first") as first:
            cameras.start()  # all that follows happens while frames come in
            wait_until(lambda: results.count > 30, "the first worker's results")
            quarterturn("bank", "push", str(line.banks[1]), "--config", str(config))
            with worker(config, "second") as second:
                joined_at = results.count
                wait_until(lambda: results.count > joined_at + 60, "results of both workers")
                stop(second)
            stop(first)
        before = results.count
        with worker(config, "third") as third:
            wait_until(lambda: results.count > before, "the third worker's results")
            each = cameras.stop()
            wait_until(lambda: results.count >= len(CAMERAS) * each, "all results")
            stop(third)

    topic_id = librdkafka.topic_id(kafka_bootstrap, topics.frames)
    check_outcomes(results.messages, topics, topic_id, line, each)


def check_outcomes(
    messages: dict[str, list[Message]], topics: Topics, topic_id: str, line: MadeLine, each: int
) -> None:
    """`each` frames of every camera have one outcome each."""
    verdicts = [json.loads(message.value()) for message in messages[topics.verdicts]]
    dead_letters = [json.loads(message.value()) for message in messages[topics.dead_letters]]
    alerts = [json.loads(message.value()) for message in messages[topics.alerts]]

    places = Counter((data["frame"]["partition"], data["frame"]["offset"]) for data in verdicts + dead_letters)
    expected = {(partition, offset) for partition in range(len(CAMERAS)) for offset in range(each)}
    assert set(places) == expected
    assert set(places.values()) == {1}

    assert {data["frame"]["offset"] % 10 for data in dead_letters} == {3}
    assert {data["reason"] for data in dead_letters} == {"truncated"}
    for camera in CAMERAS:
        offsets = [data["frame"]["offset"] for data in verdicts if data["camera"] == camera]
        assert offsets == sorted(offsets), f"{camera}: out of order"
    assert [a for a in verdicts if a["alert"]] == alerts

    # Both banks served, without a restart, and every verdict belongs wholly to one of them.
    banks = {bank.version: bank for bank in (read_bank(path.read_bytes(), str(path)) for path in line.banks)}
    used = {version: {v["threshold"] for v in verdicts if v["internalConfigurationId"] == version} for version in banks}
    assert {v["internalConfigurationId"] for v in verdicts} == set(banks)
    assert all(len(thresholds) == 1 for thresholds in used.values())
    assert len(set.union(*used.values())) == 2

    for message in messages[topics.verdicts][:5]:
        event = from_binary(as_sdk_message(message), JSONFormat())
        assert event.get_type() == "quarterturn.verdict.v1"
        frame = event.get_data()["frame"]
        assert event.get_id() == f"verdict:{topics.frames}:{topic_id}:{frame['partition']}:{frame['offset']}"


def as_sdk_message(message: Message) -> Any:
    return KafkaMessage(headers=dict(message.headers()), key=message.key(), value=message.value())
