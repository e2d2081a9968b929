"""Two cameras on two partitions, two workers, and one result for each part, through a real Kafka."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat

from quarterturn.worker.contract.settings import load_settings
from quarterturn.worker.runtime.assemble import build_service
from quarterturn.worker.settings.worker import KafkaSettings, WorkerSettings
from tests.conftest import CreateTopics
from tests.lines import LINE, MadeLine, quarterturn
from tests.parts import good_part, png, scratched_part
from tests.worker.transport import librdkafka
from tests.worker.transport.test_kafka_parts import stage
from tests.worker.transport.workers import wait_until

CAMERAS = ("top-01", "side-01")
RNG = np.random.default_rng(5)
PARTS = {".": lambda: png(good_part(RNG, "ring")), "d": lambda: png(scratched_part(RNG, "ring")), "x": lambda: b"no"}


@pytest.fixture
def config(line: MadeLine, kafka_bootstrap: str, create_topics: CreateTopics, tmp_path: Path) -> Path:
    topics = create_topics(2).model_dump()
    kafka = {"bootstrap_servers": kafka_bootstrap, "group": topics["frames"], "topics": topics}
    settings = {
        "line": LINE,
        "engine": {"path": str(line.engine), "threads": 1},
        "bank": {"file": {"path": str(tmp_path / "banks")}},
        "transport": {"kafka": {**kafka, "session_timeout_s": 6}},
        "overkill": 0.05,
        "cameras": {camera: {"products": ["ring"]} for camera in CAMERAS},
        "parts": {"cameras": list(CAMERAS), "window_s": 20.0},
        "http": None,
    }
    path = tmp_path / "worker.yaml"
    path.write_text(yaml.safe_dump(settings))
    quarterturn("bank", "push", str(line.banks[0]), "--config", str(path))
    return path


@contextmanager
def workers(config: Path, count: int) -> Iterator[None]:
    stop = threading.Event()
    with ExitStack() as stack:
        services = [stack.enter_context(build_service(load_settings(config, WorkerSettings))) for _ in range(count)]
        threads = [threading.Thread(target=service.run, args=(stop,)) for service in services]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def send(kafka: KafkaSettings, part: str, signs: str, second: int) -> None:
    """A frame of each camera, each on a partition of its own; a blank is none."""
    producer = librdkafka.producer(kafka.bootstrap_servers)
    at = (datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=second)).isoformat()
    for partition, (camera, sign) in enumerate(zip(CAMERAS, signs, strict=True)):
        if sign != " ":
            headers = {"camera": camera, "captured_at": at, **({"part_id": part} if part else {})}
            producer.produce(kafka.topics.frames, PARTS[sign](), camera, partition, headers=headers)
    assert producer.flush(20) == 0


def told(kafka: KafkaSettings) -> list[dict[str, Any]]:
    """What stands in the parts topic, read by the CloudEvents SDK."""
    found = []
    for message in librdkafka.consume(kafka.bootstrap_servers, kafka.topics.parts):
        event = from_binary(KafkaMessage(dict(message.headers()), message.key(), message.value()), JSONFormat())
        data = event.get_data()
        assert isinstance(data, dict)
        assert (event.get_type(), event.get_id()) == ("quarterturn.part.v1", f"part:{data['resultId']}")
        assert message.key().decode() == data["partId"]
        found.append(data)
    return found


@pytest.mark.timeout(240)
def test_each_part_has_one_result_though_what_makes_them_is_killed(config: Path) -> None:
    kafka = load_settings(config, WorkerSettings).transport.kafka
    assert kafka is not None
    first, second = range(12), range(12, 24)
    with workers(config, 2):
        with stage(config) as killed:
            for n in first:
                send(kafka, f"SN-{n}", "d." if n == 3 else "..", n)
            send(kafka, "", "..", 5)
            send(kafka, "half", ". ", 12)
            wait_until(lambda: len(told(kafka)) >= len(first), "the first results", timeout_s=90)
            killed.send_signal(signal.SIGKILL)
            killed.wait()
        for n in second:
            send(kafka, f"SN-{n}", "..", n + 1)
        send(kafka, "unreadable", ".x", 26)
        inspected = 2 * (len(first) + 1 + len(second)) + 2
        wait_until(lambda: len(librdkafka.values(kafka.bootstrap_servers, kafka.topics.verdicts)) >= inspected, "all")
        send(kafka, "SN-0", ".d", 50)  # an id that comes again, beyond the window of all others
        with stage(config):
            expected = len(first) + len(second) + 3
            wait_until(lambda: len(told(kafka)) >= expected, "all results", timeout_s=90)
    found = told(kafka)
    assert Counter(data["partId"] for data in found) == Counter(
        [*(f"SN-{n}" for n in (*first, *second)), "SN-0", "half", "unreadable"]
    )
    verdicts = {(data["partId"], data["beganAt"][17:19]): data for data in found}
    for part, second_of in (("half", "12"), ("unreadable", "26")):
        data = verdicts[part, second_of]
        assert (data["state"], data["verdict"], data["missing"]) == ("timed_out", "not_inspected", ["side-01"])
    assert verdicts["SN-3", "03"]["verdict"] == verdicts["SN-0", "50"]["verdict"] == "bad"
    assert verdicts["SN-0", "50"]["worst"]["camera"] == "side-01"
    complete = [data for data in found if data["state"] == "complete"]
    assert len(complete) == 25
    for data in complete:
        assert sorted(data["frames"]) == sorted(CAMERAS)
        by_partition = {camera: ids[0].split(":")[-2] for camera, ids in data["frames"].items()}
        assert by_partition == {"top-01": "0", "side-01": "1"}
    assert sum(data["verdict"] == "good" for data in complete) >= 18, "but for the promised overkill"
