"""A run of defects through a real Kafka: a verdict for every frame, and few alerts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat

from quarterturn.worker.commands.main import main
from quarterturn.worker.contract.settings import load_settings
from quarterturn.worker.runtime.assemble import build_service
from quarterturn.worker.settings.worker import WorkerSettings
from tests.conftest import CreateTopics
from tests.lines import LINE, MadeLine, quarterturn
from tests.parts import good_part, png, scratched_part
from tests.worker.transport import librdkafka

TIMEOUT_S = 60.0
RNG = np.random.default_rng(3)
PARTS = {".": good_part, "d": scratched_part}


@pytest.fixture
def config(
    line: MadeLine, kafka_bootstrap: str, create_topics: CreateTopics, tmp_path: Path, request: pytest.FixtureRequest
) -> Path:
    """Settings of a worker whose camera `top-01` groups its alerts, and `side-01` does not."""
    path = tmp_path / "worker.yaml"
    topics = create_topics(1).model_dump()
    settings = {
        "line": LINE,
        "engine": {"path": str(line.engine), "threads": 1},
        "bank": {"file": {"path": str(tmp_path / "banks")}},
        "transport": {"kafka": {"bootstrap_servers": kafka_bootstrap, "group": topics["frames"], "topics": topics}},
        "overkill": 0.05,
        "cameras": {"top-01": {"alerts": {"group_runs": True}, "drift": None}, "side-01": {"drift": None}},
        "http": None,
    }
    path.write_text(yaml.safe_dump(settings))
    quarterturn("bank", "push", str(line.banks[0]), "--config", str(path))
    return path


@contextmanager
def running(config: Path) -> Iterator[None]:
    """A worker, as the settings describe it."""
    stop = threading.Event()
    with build_service(load_settings(config, WorkerSettings)) as service:
        thread = threading.Thread(target=service.run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


class Line:
    """A line's topics, as others see them."""

    def __init__(self, config: Path) -> None:
        kafka = load_settings(config, WorkerSettings).transport.kafka
        assert kafka is not None
        self.bootstrap, self.topics = kafka.bootstrap_servers, kafka.topics
        self.sent = 0

    def send(self, camera: str, signs: str) -> None:
        self.sent += len(signs)
        producer = librdkafka.producer(self.bootstrap)
        for sign in signs:
            headers = {"camera": camera, "product": "ring"}
            producer.produce(self.topics.frames, png(PARTS[sign](RNG, "ring")), camera, headers=headers)
        assert producer.flush(20) == 0

    def verdicts(self) -> list[dict[str, Any]]:
        """All verdicts, once each frame has one."""
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + TIMEOUT_S
        while len(found) < self.sent:
            assert time.monotonic() < deadline, f"{len(found)} of {self.sent} verdicts"
            found = librdkafka.values(self.bootstrap, self.topics.verdicts)
        return found

    def told(self) -> list[tuple[str, ...]]:
        """What stands in the alerts topic: camera and event, and what it says."""
        lines = []
        for message in librdkafka.consume(self.bootstrap, self.topics.alerts):
            event = from_binary(KafkaMessage(dict(message.headers()), message.key(), message.value()), JSONFormat())
            data = event.get_data()
            kind = event.get_type().split(".")[1]
            assert event.get_id().startswith(f"{kind}:{data['resultId']}")
            said = (data["alert"],) if kind == "alert" else (data["state"], data["kind"], str(data["count"]))
            lines.append((data["camera"], kind, *said))
        return lines


def test_a_run_of_defects_is_a_verdict_each_and_one_alert(config: Path) -> None:
    line = Line(config)
    with running(config):
        line.send("top-01", "..." + 14 * "d" + "..")
        line.send("side-01", "ddd")
        verdicts = line.verdicts()
    assert [data["alert"] for data in verdicts] == 3 * [None] + 14 * ["defect"] + 2 * [None] + 3 * ["defect"]
    assert line.told() == [
        ("top-01", "alert", "defect"),
        ("top-01", "episode", "raised", "defect", "1"),
        ("top-01", "episode", "grown", "defect", "10"),
        ("top-01", "episode", "cleared", "defect", "14"),
        *3 * [("side-01", "alert", "defect")],
    ]


def test_another_worker_goes_on_in_a_run_as_if_it_began(config: Path) -> None:
    """What is known of a camera ends with the process: better an alert too many than one too few."""
    line = Line(config)
    for _ in range(2):
        with running(config):
            line.send("top-01", "dd")
            line.verdicts()
    assert [one[:3] for one in line.told()] == 2 * [("top-01", "alert", "defect"), ("top-01", "episode", "raised")]


def test_a_silence_is_declared_and_ended_while_the_worker_runs(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = Line(config)

    def holds(camera: str) -> bool:
        """Whether the next alert of `camera` is held; the watcher needs a moment to hear of a change."""
        before = len(line.told())
        line.send(camera, "d")
        line.verdicts()
        return len(line.told()) == before

    def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline

    silence = ("silence", "--config", str(config), "--camera", "side-01")
    with running(config):
        assert not holds("side-01")
        quarterturn(*silence, "--minutes", "5", "--reason", "the lamp is changed", "--by", "Ilse")
        until(lambda: holds("side-01"))
        assert not holds("top-01")
        quarterturn("silence", "--config", str(config))
        told = capsys.readouterr().out.splitlines()
        assert len([one for one in told if one.startswith("side-01, all products: ")]) == 2
        assert told[-1].endswith("UTC: the lamp is changed (Ilse)")
        quarterturn(*silence, "--end")
        assert "side-01, all products: the silence is ended" in capsys.readouterr().out
        assert main(["silence", "--config", str(config), "--camera", "side-1", "--end"]) == 1
        assert "no silence of side-1, all products was declared with this command (declared: none)" in (
            capsys.readouterr().err
        )
        until(lambda: not holds("side-01"))
    with running(config):  # a worker that starts knows what was ended, too
        assert not holds("side-01")
    assert len(line.verdicts()) == line.sent
    quarterturn("silence", "--config", str(config))
    assert capsys.readouterr().out.splitlines()[-1] == "no silence is declared, or all are over"
