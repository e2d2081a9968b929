"""A line to load: real Kafka and Redis, workers as processes, frames that are published, verdicts that come."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from quarterturn.worker.settings.worker import Topics
from tests.services import broker, own_redis

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Place:
    """Broker, Redis and an engine to run with; `broker_pid` to count the broker's own work."""

    bootstrap: str
    redis_url: str
    broker_pid: int
    engine: Path
    target: str
    bank: Path
    scratch: Path


@dataclass
class Followed:
    """Verdicts as they came: seconds since `time.perf_counter`'s zero, and their data."""

    arrivals: list[float] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def place(engine: Path, target: str, bank: Path, scratch: Path) -> Iterator[Place]:
    """Start the services."""
    with broker() as kafka, own_redis() as redis:
        yield Place(kafka.bootstrap, redis.url, kafka.pid, engine, target, bank, scratch)


class Line:
    """Topics of its own for one measurement, with `partitions` of frames; `cameras` publish to it."""

    def __init__(self, at: Place, cameras: int, partitions: int, batch: int, product: str) -> None:
        self._at, self._cameras, self._partitions, self._product = at, cameras, partitions, product
        suffix = uuid.uuid4().hex[:8]
        self._topics = Topics(**{kind: f"{name}-{suffix}" for kind, name in Topics().model_dump().items()})
        counts = dict.fromkeys(self._topics.model_dump().values(), 1) | {self._topics.frames: partitions}
        admin = AdminClient({"bootstrap.servers": at.bootstrap})
        for future in admin.create_topics([NewTopic(name, count) for name, count in counts.items()]).values():
            future.result()
        self._config = at.scratch / f"worker-{suffix}.yaml"
        settings = {
            "line": suffix,
            "engine": {"path": str(at.engine.resolve()), "target": at.target},
            "bank": {"redis": {"url": at.redis_url}},
            "transport": {
                "kafka": {"bootstrap_servers": at.bootstrap, "group": suffix, "topics": self._topics.model_dump()}
            },
            "overkill": 0.1,
            "batch": {"max_frames": batch},
            "http": None,
        }
        self._config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        self.push(at.bank)
        camera = {"queue.buffering.max.kbytes": 1 << 20, "linger.ms": 0}  # one that waits for no other frame
        self._producer = Producer({"bootstrap.servers": at.bootstrap, **camera})

    def publish(self, encoded: Sequence[bytes], count: int, rate: float | None = None) -> None:
        """Publish `count` frames, `rate` a second (None: as fast as the broker takes them), each with its time."""
        started_s = time.perf_counter()
        for n in range(count):
            if rate is not None:
                time.sleep(max(0.0, started_s + n / rate - time.perf_counter()))
            camera = f"cam-{n % self._cameras}"
            headers = {"camera": camera, "product": self._product, "part_id": repr(time.perf_counter())}
            partition = n % self._cameras % self._partitions
            data = encoded[n % len(encoded)]
            self._producer.produce(self._topics.frames, data, key=camera, partition=partition, headers=headers)
            self._producer.poll(0)
        self._producer.flush()

    def staged(self, frames: int) -> dict[str, float]:
        """Milliseconds of processor time a frame in each stage of a worker of this line, see `benchmarks.staged`."""
        command = [sys.executable, "-m", "benchmarks.staged", "--config", str(self._config), "--frames", str(frames)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found: dict[str, float] = json.loads(done.stdout)
        return found

    def push(self, bank: Path) -> None:
        """Make this the line's bank."""
        quarterturn("bank", "push", str(bank), "--config", str(self._config))

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """A worker of this line, stopped at the end."""
        command = [sys.executable, "-m", "quarterturn", "--log-level", "warning", "run", "--config", str(self._config)]
        process = subprocess.Popen(command)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()

    def follow(self, count: int, first: threading.Event | None = None) -> Followed:
        """The next `count` verdicts of this line, from its beginning; `first` is set at the first of them."""
        options = {"bootstrap.servers": self._at.bootstrap, "group.id": "benchmark"}
        consumer = Consumer({**options, "isolation.level": "read_committed"})
        consumer.assign([TopicPartition(self._topics.verdicts, 0, 0)])
        found = Followed()
        while len(found.arrivals) < count:
            # `consume` waits until it has all that it may give: so one is awaited, and what else is there taken along.
            messages = [one for one in [consumer.poll(0.5)] if one is not None] + consumer.consume(500, timeout=0)
            arrived_s = time.perf_counter()
            for message in messages:
                found.arrivals.append(arrived_s)
                found.verdicts.append(json.loads(message.value()))
            if first is not None and found.arrivals:
                first.set()
        consumer.close()
        return found


def quarterturn(*arguments: str) -> None:
    """Run a command of the package's, silently."""
    command = [sys.executable, "-m", "quarterturn", "--log-level", "warning", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mb(pid: int) -> float:
    """The resident memory of a process."""
    return _status_mb(pid, "VmRSS")


def peak_mb(pid: int) -> float:
    """The largest resident memory that a process has had."""
    return _status_mb(pid, "VmHWM")


def _status_mb(pid: int, name: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split(f"{name}:")[1].split()[0]) / 1024
