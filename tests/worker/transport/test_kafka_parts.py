"""`quarterturn parts` on a real broker: killed at each step, replaced, and read by a client of others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from quarterturn.worker.messages.events import events_of
from quarterturn.worker.settings.worker import KafkaSettings, Topics
from quarterturn.worker.transport.kafka.parts import PartsTransport
from tests import examples
from tests.chaos import victim
from tests.conftest import CreateTopics
from tests.worker.transport import librdkafka
from tests.worker.transport.workers import settings_for, wait_until

CAMERAS = ("top-01", "side-01")


@pytest.fixture
def settings(kafka_bootstrap: str, create_topics: CreateTopics) -> KafkaSettings:
    """A line whose verdicts have two partitions, one for each camera."""
    topics = create_topics(1)
    librdkafka.add_partitions(kafka_bootstrap, topics.verdicts, 2)
    return settings_for(kafka_bootstrap, topics)


def write_verdicts(settings: KafkaSettings, parts: range, cameras: tuple[str, ...] = CAMERAS) -> None:
    """A verdict of each camera for each part, ten parts in a second."""
    producer = librdkafka.producer(settings.bootstrap_servers)
    for n in parts:
        for camera in cameras:
            partition = CAMERAS.index(camera)
            event = events_of(examples.verdict(examples.frame(n, partition), "defect" if n % 10 == 0 else None))[0]
            frame = {"capturedAt": f"2026-01-01T{n // 36000:02}:{n // 600 % 60:02}:{n / 10 % 60:06.3f}Z"}
            data = json.loads(event.value) | {"partId": f"SN-{n}", "camera": camera, "frame": frame}
            value = json.dumps(data)
            producer.produce(settings.topics.verdicts, value, camera, partition, headers=list(event.headers))
    assert producer.flush(20) == 0


def config_of(settings: KafkaSettings, folder: Path) -> Path:
    path = folder / "worker.yaml"
    document = {
        "line": "line-1",
        "engine": {"path": "engine"},
        "bank": {"file": {"path": "banks"}},
        "transport": {"kafka": settings.model_dump(mode="json")},
        "parts": {"cameras": list(CAMERAS), "window_s": 2.0},
        "http": None,
    }
    path.write_text(yaml.safe_dump(document))
    return path


@contextmanager
def stage(config: Path, strike: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """`quarterturn parts` as a process that may strike itself, see tests/chaos/victim.py."""
    command = [sys.executable, "-m", "tests.chaos.victim", "parts", "--config", str(config)]
    with (config.parent / "log").open("ab") as output:
        environment = {**os.environ, victim.VARIABLE: strike}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        print((config.parent / "log").read_text())


def results(settings: KafkaSettings) -> list[dict[str, Any]]:
    return librdkafka.values(settings.bootstrap_servers, settings.topics.parts)


STEPS = ("records_sent", "offsets_sent", "confirmed", "committed")


@pytest.mark.timeout(400)
def test_each_part_has_one_result_wherever_it_is_killed(settings: KafkaSettings, tmp_path: Path) -> None:
    """In the first and in the second transaction, at each step of it."""
    count, last = 2000, range(2000, 2010)
    write_verdicts(settings, range(count))
    write_verdicts(settings, last, CAMERAS[:1])
    config = config_of(settings, tmp_path)
    for step in STEPS:
        with stage(config, f"KILL:{step}:{1 + STEPS.index(step) % 2}") as process:
            assert process.wait(90) == -signal.SIGKILL
    with stage(config) as process:
        wait_until(lambda: len(results(settings)) >= count + len(last), "the last result", timeout_s=60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    found = results(settings)
    assert Counter(one["partId"] for one in found) == Counter(f"SN-{n}" for n in range(last.stop))
    for one in found:
        number = int(one["partId"].removeprefix("SN-"))
        cameras = CAMERAS if number < count else CAMERAS[:1]
        assert one["frames"] == {c: [f"frames:{CAMERAS.index(c)}:{number}"] for c in sorted(cameras)}
        assert one["state"] == ("complete" if number < count else "timed_out")
        good = "good" if number < count else "not_inspected"
        assert one["verdict"] == ("bad" if number % 10 == 0 else good)


def test_a_broker_without_transactions_gives_results_too(settings: KafkaSettings, tmp_path: Path) -> None:
    write_verdicts(settings, range(1, 6))
    with stage(config_of(settings.model_copy(update={"delivery": "at_least_once"}), tmp_path)):
        wait_until(lambda: len(results(settings)) >= 5, "the last result")
    assert {one["partId"]: one["verdict"] for one in results(settings)} == {f"SN-{n}": "good" for n in range(1, 6)}


@pytest.mark.timeout(120)
def test_one_reads_all_partitions_and_another_stands_by(settings: KafkaSettings) -> None:
    with (
        closing(PartsTransport(settings)) as one,
        closing(PartsTransport(settings)) as other,
        ThreadPoolExecutor(2) as together,  # one by one, each would stay in its poll for the other to join
    ):
        pair = (one, other)

        def shares() -> list[int | None]:
            list(together.map(lambda each: each.poll(10, 0.1), pair))
            return sorted(each.standing.assigned if each.standing.assigned is not None else -1 for each in pair)

        wait_until(lambda: shares() == [0, 2], "one reader of two partitions")
        first, second = sorted(pair, key=lambda each: -(each.standing.assigned or 0))
        assert sorted(first.begun()) == [0, 1]
        first.close()

        def has_taken_over() -> bool:
            second.poll(10, 0.1)
            return second.standing.assigned == 2

        wait_until(has_taken_over, "the other's turn")


def test_a_line_without_the_topic_says_how_to_create_it(
    settings: KafkaSettings, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from quarterturn.worker.commands.main import main

    topics = Topics(**(settings.topics.model_dump() | {"parts": "no-parts"}))
    config = config_of(settings.model_copy(update={"topics": topics}), tmp_path)
    assert main(["parts", "--config", str(config)]) == 1
    assert "has no topic 'no-parts'; create it with: kafka-topics.sh" in capfd.readouterr().err
