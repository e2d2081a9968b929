"""A slow engine or a slow broker: the rest waits in Kafka, memory stays bounded, nothing is dropped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.runtime.health import Health
from quarterturn.worker.runtime.service import Service
from quarterturn.worker.settings.worker import BatchSettings, KafkaSettings, Topics
from quarterturn.worker.transport.kafka import connection
from quarterturn.worker.transport.kafka.topics import create_topics
from quarterturn.worker.transport.kafka.transport import KafkaTransport
from tests import services
from tests.parts import NumpyEngine, bank_of
from tests.worker.transport import librdkafka

FRAME_BYTES = 2**20
FRAMES = 300


class SlowEngine(NumpyEngine):
    """Takes its time for every batch, though there is nothing in it, and all the time until the gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def embed(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        assert self.gate.wait(60)
        time.sleep(0.05)
        return super().embed(frames)


def settings_for(broker: services.Broker, name: str) -> KafkaSettings:
    topics = Topics(**{field: f"{name}-{field.replace('_', '-')}" for field in Topics.model_fields})
    settings = KafkaSettings(bootstrap_servers=broker.bootstrap, topics=topics, group=name, session_timeout_s=10)
    create_topics(settings, 1)
    return settings


@contextmanager
def working(settings: KafkaSettings, engine: SlowEngine) -> Iterator[threading.Thread]:
    """A worker on a thread."""
    engine.gate.set()
    with closing(Inspector(engine, "line-1", overkill=0.02)) as inspector:
        inspector.use(bank_of(engine, count=60))
        with closing(KafkaTransport(settings)) as transport:
            stop = threading.Event()
            service = Service(transport, inspector, Health(), BatchSettings(max_frames=4))
            thread = threading.Thread(target=service.run, args=(stop,), daemon=True)
            thread.start()
            yield thread
            stop.set()
            thread.join(30)
            assert not thread.is_alive()


def delivered(broker: services.Broker, settings: KafkaSettings) -> list[int]:
    """The offsets of the frames that have a dead letter: these are no pictures."""
    return [letter["frame"]["offset"] for letter in librdkafka.values(broker.bootstrap, settings.topics.dead_letters)]


def wait_for(broker: services.Broker, settings: KafkaSettings, worker: threading.Thread, count: int) -> None:
    deadline = time.monotonic() + 90
    while len(delivered(broker, settings)) < count:
        assert worker.is_alive(), "the worker stopped"
        assert time.monotonic() < deadline, f"{count} frames take too long"
        time.sleep(0.05)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Memory(threading.Thread):
    """Watches the most that this process takes, until stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self._stopping = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._stopping.wait(0.01):
            self.most = max(self.most, resident_bytes())

    def stop(self) -> int:
        self._stopping.set()
        self.join()
        return self.most


def test_a_slow_engine_leaves_the_backlog_in_kafka(broker: services.Broker) -> None:
    settings = settings_for(broker, "slow-engine")
    frame = np.random.default_rng(0).bytes(FRAME_BYTES)
    librdkafka.produce(broker.bootstrap, settings.topics.frames, [frame] * 8)
    engine = SlowEngine()
    with working(settings, engine) as worker:
        wait_for(broker, settings, worker, 8)  # what a worker takes by itself is in memory now
        engine.gate.clear()
        before, memory = resident_bytes(), Memory()
        for _ in range(FRAMES // 10):
            librdkafka.produce(broker.bootstrap, settings.topics.frames, [frame] * 10)
        assert len(delivered(broker, settings)) <= 16  # one batch may have been under way
        engine.gate.set()
        wait_for(broker, settings, worker, 8 + FRAMES)
        grown = memory.stop() - before
    assert delivered(broker, settings) == list(range(8 + FRAMES))
    assert grown < FRAMES * FRAME_BYTES / 2  # what is fetched ahead is 16 MiB, and in several copies


def test_a_slow_broker_delays_and_loses_nothing(broker: services.Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_S", 2.0)
    settings = settings_for(broker, "slow-broker")
    librdkafka.produce(broker.bootstrap, settings.topics.frames, [b"no picture"] * 200)
    with working(settings, SlowEngine()) as worker:
        wait_for(broker, settings, worker, 20)
        for seconds in (0.5, 4.0):  # less than a request may take, and more
            broker.freeze()
            time.sleep(seconds)  # nothing to wait for: the broker is to be silent for so long
            broker.thaw()
            wait_for(broker, settings, worker, min(200, len(delivered(broker, settings)) + 20))
        wait_for(broker, settings, worker, 200)
    assert delivered(broker, settings) == list(range(200))
