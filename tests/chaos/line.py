"""The line under attack: its services, cameras and workers, and what each of its frames should give."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from confluent_kafka import KafkaError, Message

from quarterturn.worker.bankstore.redis import RedisBankStore
from quarterturn.worker.contract.bank import Bank, read_bank
from quarterturn.worker.contract.errors import QuarterturnError
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.events import Verdict
from quarterturn.worker.runtime.assemble import open_engine
from quarterturn.worker.settings.worker import EngineSettings, KafkaSettings, RedisStoreSettings, Topics
from quarterturn.worker.transport.kafka.topics import create_topics
from tests import services
from tests.chaos import victim
from tests.lines import MadeLine
from tests.parts import frame, good_part, png, scratched_part
from tests.worker.transport import librdkafka

CAMERAS = ("top-01", "top-02", "side-01", "side-02")
NAME = "line-1"
SESSION_S = 3.0
OVERKILL = 0.05

Place = tuple[int, int]
"""Partition and offset of a frame."""


@dataclass(frozen=True)
class Expected:
    """What an undisturbed worker says of one picture by one bank."""

    alert: str | None
    score: float


def pictures() -> dict[str, bytes]:
    """A few files that cameras send over and over, by name: good ones, bad ones, and one that is cut off."""
    rng = np.random.default_rng(5)
    files = {f"good-{n}": png(good_part(rng, "ring")) for n in range(5)}
    files |= {f"scratched-{n}": png(scratched_part(rng, "ring")) for n in range(2)}
    files |= {"another": png(good_part(rng, "bracket")), "cut": files["good-0"][: len(files["good-0"]) // 2]}
    return files


@dataclass
class Line:
    """A line with real services; `published` says which number and picture each place of the frames topic holds."""

    folder: Path
    broker: services.Broker
    redis: services.RedisServer
    made: MadeLine
    settings: KafkaSettings
    banks: dict[str, Bank]
    published: dict[Place, tuple[int, str]] = field(default_factory=dict)

    @property
    def topics(self) -> Topics:
        return self.settings.topics

    def expected(self) -> dict[tuple[str, str], Expected]:
        """By picture and bank version, from an inspector that nothing disturbs; a picture of no verdict is missing."""
        known = {}
        with closing(open_engine(EngineSettings(path=self.made.engine, threads=1))) as engine:
            for version, bank in self.banks.items():
                with closing(Inspector(engine, NAME, OVERKILL)) as inspector:
                    inspector.use(bank)
                    for name, data in pictures().items():
                        (outcome,) = inspector.inspect([frame(data, product="ring")])
                        if isinstance(outcome, Verdict):
                            known[name, version] = Expected(outcome.data.alert, outcome.data.score)
        return known

    def store(self) -> RedisBankStore:
        return RedisBankStore(RedisStoreSettings(url=self.redis.url, snapshot=None, timeout_s=2))

    def config(self, worker: str) -> Path:
        """The settings of one worker, which keeps a snapshot of its bank from one life to the next."""
        path = self.folder / f"{worker}.yaml"
        settings = {
            "line": NAME,
            "engine": {"path": str(self.made.engine), "threads": 1},
            "bank": {"redis": {"url": self.redis.url, "timeout_s": 2, "snapshot": str(self.folder / worker)}},
            "transport": {"kafka": self.settings.model_dump(mode="json")},
            "overkill": OVERKILL,
            "batch": {"max_frames": 32},
            "http": None,
        }
        path.write_text(yaml.safe_dump(settings))
        return path


@contextmanager
def line(made: MadeLine, folder: Path) -> Iterator[Line]:
    """A line with services of its own, a bank in service; what its workers keep goes into `folder`."""
    banks = {bank.version: bank for bank in (read_bank(path.read_bytes(), str(path)) for path in made.banks)}
    with services.broker() as broker, services.own_redis() as redis:
        settings = KafkaSettings(bootstrap_servers=broker.bootstrap, group=NAME, session_timeout_s=SESSION_S)
        create_topics(settings, len(CAMERAS))
        built = Line(folder, broker, redis, made, settings, banks)
        with closing(built.store()) as store:
            for bank in banks.values():
                store.publish(NAME, bank)
        yield built


class Cameras(threading.Thread):
    """Numbered frames at a steady rate, each camera's to its own partition, until stopped and `least` are sent."""

    def __init__(self, line: Line, rate: float, least: int) -> None:
        super().__init__(name="cameras", daemon=True)
        self._line = line
        self._period_s = 1 / rate
        self._least = least
        self._enough = threading.Event()
        self.sent = 0
        self.refused: list[str] = []

    def run(self) -> None:
        files = list(pictures().items())
        producer = librdkafka.producer(self._line.broker.bootstrap, **{"enable.idempotence": True})
        rng = np.random.default_rng(7)
        next_s = time.monotonic()
        for number in itertools.count():
            if number >= self._least and self._enough.is_set():
                break
            name, data = files[rng.integers(len(files))]
            partition = int(rng.integers(len(CAMERAS)))

            def stored(error: KafkaError | None, message: Message, sent: tuple[int, str] = (number, name)) -> None:
                if error is not None:
                    self.refused.append(str(error))
                else:
                    self._line.published[message.partition(), message.offset()] = sent

            headers = {"camera": CAMERAS[partition], "product": "ring", "part_id": f"{number}", "simulated": "true"}
            key = CAMERAS[partition]
            producer.produce(
                self._line.topics.frames, data, key, partition=partition, headers=headers, on_delivery=stored
            )
            self.sent = number + 1
            next_s += self._period_s
            while True:
                producer.poll(max(0.0, next_s - time.monotonic()))
                if time.monotonic() >= next_s:
                    break
        producer.flush(120)

    def stop(self) -> None:
        """Return when all is stored."""
        self._enough.set()
        self.join()
        assert not self.refused, self.refused[0]
        assert len(self._line.published) >= self.sent, "frames were not stored"


class BankSwaps(threading.Thread):
    """Puts the line's other bank into service again and again, and both back where Redis lost them."""

    def __init__(self, line: Line, period_s: float) -> None:
        super().__init__(name="bank-swaps", daemon=True)
        self._line = line
        self._period_s = period_s
        self._stopping = threading.Event()
        self.swaps = 0

    def run(self) -> None:
        with closing(self._line.store()) as store:
            for version, bank in itertools.cycle(self._line.banks.items()):
                if self._stopping.wait(self._period_s):
                    return
                try:
                    if version in {one.version for one in store.versions(NAME)}:
                        store.activate(NAME, version)
                    else:
                        store.publish(NAME, bank)
                    self.swaps += 1
                except QuarterturnError:
                    continue  # Redis is gone, as it shall be at times

    def stop(self) -> None:
        self._stopping.set()
        self.join()


class Worker:
    """A worker's process, with its log; `strike` is what it does to itself (see victim)."""

    def __init__(self, config: Path, strike: str = "") -> None:
        self.log = config.with_suffix(".log")
        environment = {**os.environ, victim.VARIABLE: strike}
        command = (sys.executable, "-m", "tests.chaos.victim", "run", "--config", str(config))
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, None while it lives, -9 after SIGKILL."""
        return self._process.poll()

    @property
    def joined(self) -> bool:
        """Whether it has been a member of the group."""
        return "generation" in self.log.read_text(errors="replace")

    @property
    def stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """The exit code.

        Raises:
            subprocess.TimeoutExpired: it lives on.
        """
        return self._process.wait(timeout_s)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def complaint(self) -> str | None:
        """The end of its log where that tells of more than a fault of the world around it."""
        text = self.log.read_text(errors="replace")
        return text[-2000:] if "Traceback" in text or "unexpected" in text else None
