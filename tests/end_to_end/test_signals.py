"""A worker as a process: when it is ready, and how it is told to stop, whatever it is at. The broker is a real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml
from kafka.admin import KafkaAdminClient

from quarterturn.worker.settings.worker import KafkaSettings, Topics
from quarterturn.worker.transport.kafka.topics import create_topics
from quarterturn.worker.transport.kafka.transport import KafkaTransport
from tests import services
from tests.lines import MadeLine, quarterturn
from tests.worker.transport import librdkafka

ROOT = Path(__file__).parents[2]
STUCK = """
import hashlib, sys
from quarterturn.worker.commands.main import main
from quarterturn.worker.engine import openvino
from quarterturn.worker.inspection import inspector
from quarterturn.worker.transport.kafka import transport

def stuck(*_):
    print("is stuck", file=sys.stderr, flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # for many minutes, and no Python runs on this thread

if sys.argv[2]:
    owner, name = sys.argv[2].rsplit(".", 1)
    setattr(eval(owner), name, stuck)
sys.exit(main(["run", "--config", sys.argv[1]]))
"""


class Line:
    """A worker's settings, its topics, and a bank in a folder."""

    def __init__(self, made: MadeLine, broker: services.Broker, folder: Path, **changes: object) -> None:
        topics = Topics(**{field: f"{folder.name}-{field.replace('_', '-')}" for field in Topics.model_fields})
        self.kafka = KafkaSettings(
            bootstrap_servers=broker.bootstrap, topics=topics, group=folder.name, session_timeout_s=60
        )
        create_topics(self.kafka, 2)
        (self.port,) = services.free_ports(1)
        self.config = folder / "worker.yaml"
        settings = {
            "line": folder.name,
            "engine": {"path": str(made.engine), "threads": 1},
            "bank": {"file": {"path": str(folder / "banks")}},
            "transport": {"kafka": self.kafka.model_dump(mode="json")},
            "overkill": 0.05,
            "http": {"port": self.port},
            **changes,
        }
        self.config.write_text(yaml.safe_dump(settings))
        quarterturn("bank", "push", str(made.banks[0]), "--config", str(self.config))
        self.log = folder / "log"

    @contextmanager
    def worker(self, stuck_in: str = "") -> Iterator[subprocess.Popen[bytes]]:
        with self.log.open("wb") as output:
            command = [sys.executable, "-c", STUCK, str(self.config), stuck_in]
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT, env={**os.environ})
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            print(self.log.read_text())  # pytest shows it beside a failure

    def says(self, text: str) -> bool:
        return text in self.log.read_text()

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except urllib.error.URLError:
            return 0, ""

    def lacks(self) -> object:
        """What it lacks to be ready; False before the page is there."""
        status, body = self.get("/readyz")
        return json.loads(body)["lacks"] if status else False

    def members(self) -> list[object]:
        with closing(KafkaAdminClient(bootstrap_servers=self.kafka.bootstrap_servers)) as admin:
            found: list[object] = admin.describe_groups([self.kafka.group])[self.kafka.group]["members"]
            return found


def until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} took longer than {timeout_s:g} s"
        time.sleep(0.05)


def test_ready_with_the_first_assignment_and_not_without_a_broker(
    line: MadeLine, broker: services.Broker, tmp_path: Path
) -> None:
    ours = Line(line, broker, tmp_path)
    with closing(KafkaTransport(ours.kafka)) as other, ours.worker():
        until(lambda: other.poll(1, 0.1) == [] and other.standing.assigned is not None, "the other worker's start")
        # It beats on and does not poll: whoever joins the group waits for it.
        waiting = f"waiting for the group '{ours.kafka.group}' to take this worker in"
        until(lambda: ours.lacks() == waiting, "waiting for the other worker")
        assert ours.says("is in service")
        until(lambda: ours.says("still waiting to be taken in"), "saying so")
        assert ours.lacks() == waiting
        until(lambda: other.poll(1, 0.1) == [] and ours.lacks() is None, "being ready")
        assert "quarterturn_assigned_partitions 1.0" in ours.get("/metrics")[1]
        other.close()
        until(lambda: "quarterturn_assigned_partitions 2.0" in ours.get("/metrics")[1], "taking over")
        until(lambda: ours.lacks() is None, "being ready again")
        broker.freeze()
        try:
            until(lambda: ours.lacks() is not None, "seeing that the broker is silent", timeout_s=10)
            assert ours.get("/healthz")[0] == 200
            assert json.loads(ours.get("/healthz")[1])["parts"]["Kafka"] != "ok"
            assert 'quarterturn_degraded{part="Kafka"} 1.0' in ours.get("/metrics")[1]
        finally:
            broker.thaw()
        until(lambda: ours.lacks() is None, "going on")


PLACES = {
    "in the engine": "inspector.Inspector._score",
    "in code of its own": "transport.KafkaTransport.deliver",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("signals", "code"), [(1, 1), (2, 128 + signal.SIGTERM)], ids=["deadline", "second"])
def test_a_second_signal_leaves_the_group_at_once(
    line: MadeLine, broker: services.Broker, tmp_path: Path, place: str, signals: int, code: int
) -> None:
    ours = Line(line, broker, tmp_path, drain_s=1 if signals == 1 else 60)
    with ours.worker(PLACES[place]) as worker:
        until(lambda: ours.lacks() is None, "joining")
        librdkafka.produce(broker.bootstrap, ours.kafka.topics.frames, [b"no picture"])
        until(lambda: ours.says("is stuck"), "being stuck")
        assert len(ours.members()) == 1
        for n in range(signals):
            worker.send_signal(signal.SIGTERM)
            if n + 1 < signals:
                until(lambda: ours.says("draining"), "hearing the first signal")
        assert worker.wait(10) == code
        assert ours.members() == []  # its session would last a minute


def test_a_second_signal_while_it_starts(line: MadeLine, broker: services.Broker, tmp_path: Path) -> None:
    ours = Line(line, broker, tmp_path)
    with ours.worker("openvino.OpenVinoEngine.__init__") as worker:
        until(lambda: ours.says("is stuck"), "starting")
        worker.send_signal(signal.SIGTERM)
        until(lambda: ours.says("draining"), "hearing the first signal")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 128 + signal.SIGTERM
        assert ours.members() == []


def test_a_second_signal_does_not_wait_for_a_silent_broker(
    line: MadeLine, broker: services.Broker, tmp_path: Path
) -> None:
    ours = Line(line, broker, tmp_path, drain_s=60)
    with ours.worker(PLACES["in the engine"]) as worker:
        until(lambda: ours.lacks() is None, "joining")
        librdkafka.produce(broker.bootstrap, ours.kafka.topics.frames, [b"no picture"])
        until(lambda: ours.says("is stuck"), "being stuck")
        broker.freeze()
        try:
            worker.send_signal(signal.SIGTERM)
            until(lambda: ours.says("draining"), "hearing the first signal")
            worker.send_signal(signal.SIGINT)
            assert worker.wait(8) == 128 + signal.SIGINT
        finally:
            broker.thaw()
        assert ours.says("the group was not left within 3 s")
