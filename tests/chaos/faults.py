"""What befalls the line: every worker's life ends as its fate says, and the services around go and come back."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import redis

from tests.chaos import victim
from tests.chaos.line import SESSION_S, Line, Worker
from tests.services import Broker, RedisServer

_JOIN_S = 60.0
_STRIKE_S = 60.0
_DRAIN_S = 30.0
_ENOUGH = 5  # defects: more of the same tell nothing new


@dataclass(frozen=True)
class Fate:
    """How a worker's life goes: which signal it meets, and at which step (None: at any time, from outside)."""

    signal: signal.Signals
    step: str | None = None

    @property
    def name(self) -> str:
        what = {signal.SIGKILL: "kill -9", signal.SIGSTOP: "frozen beyond its session", signal.SIGTERM: "SIGTERM"}
        return f"{what[self.signal]}, {victim.STEPS[self.step] if self.step else 'at any time'}"


KILLS = (*(Fate(signal.SIGKILL, step) for step in victim.STEPS), Fate(signal.SIGKILL))
FREEZES = (*(Fate(signal.SIGSTOP, step) for step in ("scored", "records_sent", "offsets_sent")), Fate(signal.SIGSTOP))
STOPS = (Fate(signal.SIGTERM),)


@dataclass(frozen=True)
class Event:
    """A fault that happened, and when (monotonic seconds)."""

    name: str
    at_s: float


class Record:
    """What happened so far, from all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.events: list[Event] = []
        self.defects: list[str] = []

    def happened(self, name: str) -> None:
        print(f"{threading.current_thread().name}: {name}", flush=True)
        with self._lock:
            self.events.append(Event(name, time.monotonic()))

    def defect(self, text: str) -> None:
        with self._lock:
            self.defects.append(text)


class Deck:
    """The fates still to come, in the order of the seed."""

    def __init__(self, fates: Sequence[Fate], rng: random.Random) -> None:
        self._left = list(fates)
        rng.shuffle(self._left)
        self._lock = threading.Lock()

    def draw(self) -> Fate | None:
        with self._lock:
            return self._left.pop() if self._left else None

    def put_back(self, fate: Fate) -> None:
        with self._lock:
            self._left.insert(0, fate)


class Supervisor(threading.Thread):
    """Lets one worker after another live and die, until no fate is left, or the run has failed anyway."""

    def __init__(self, name: str, line: Line, deck: Deck, record: Record, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self._line = line
        self._deck = deck
        self._record = record
        self._rng = random.Random(f"{seed}-{name}")

    def run(self) -> None:
        config = self._line.config(self.name)
        while len(self._record.defects) < _ENOUGH and (fate := self._deck.draw()) is not None:
            strike = ""
            if fate.step is not None:
                strike = f"{fate.signal.name.removeprefix('SIG')}:{fate.step}:{self._rng.randint(1, 40)}"
            worker = Worker(config, strike)
            try:
                if not self._live(worker, fate):
                    self._deck.put_back(fate)
            finally:
                worker.end()
            if complaint := worker.complaint():
                self._record.defect(f"{self.name}, {fate.name}: {complaint}")

    def _live(self, worker: Worker, fate: Fate) -> bool:
        """Whether the fate was met; else the world around came in between."""
        if not until(lambda: worker.joined or worker.code is not None, _JOIN_S) or worker.code is not None:
            return False  # no broker, or no bank, at the start
        if fate.step is None:
            time.sleep(self._rng.uniform(0.2, 4))  # nothing to wait for: it strikes at any time
            if worker.code is not None:
                return False
            if fate.signal != signal.SIGTERM:  # that is how it is seen off
                worker.signal(fate.signal)
        elif not until(lambda: worker.stopped or worker.code is not None, _STRIKE_S):
            self._see_off(worker, fate)
            return False
        if worker.code not in (None, -fate.signal):
            return False
        self._record.happened(fate.name)
        if fate.signal == signal.SIGSTOP:
            time.sleep(SESSION_S + 2)  # the others take its partitions over
            worker.signal(signal.SIGCONT)
            time.sleep(2)  # it wakes up, and goes on with what it had in its hands
        if fate.signal != signal.SIGKILL:
            self._see_off(worker, fate)
        else:
            worker.wait(_DRAIN_S)
        return True

    def _see_off(self, worker: Worker, fate: Fate) -> None:
        """It was told to stop, or is told now: it must leave in time, and in peace."""
        worker.signal(signal.SIGTERM)
        try:
            code = worker.wait(_DRAIN_S)
        except subprocess.TimeoutExpired:
            self._record.defect(f"{self.name}, {fate.name}: still there after {_DRAIN_S:g} s")
            return
        if code:
            self._record.defect(f"{self.name}, {fate.name}: left with {code}: {worker.log.read_text()[-2000:]}")


class Weather:
    """The services' faults, one after the other, again and again."""

    def __init__(self, line: Line, record: Record, gone_s: float) -> None:
        self._line = line
        self._record = record
        self._gone_s = gone_s
        self._faults = itertools.cycle(
            {
                "Redis flushed": self._flush_redis,
                "broker killed and started": partial(self._lose, line.broker, 0.0),
                f"Redis gone for {gone_s:g} s, and empty": partial(self._lose, line.redis, gone_s),
                f"broker gone for {gone_s:g} s": partial(self._lose, line.broker, gone_s),
                f"broker silent for {gone_s:g} s": self._freeze_broker,
            }.items()
        )

    def strike(self) -> None:
        """The next fault; returns when it is over. From one thread only, with which the services that it starts end."""
        name, fault = next(self._faults)
        fault()
        self._record.happened(name)  # from now on the line may be asked to go on

    def _flush_redis(self) -> None:
        with redis.Redis.from_url(self._line.redis.url) as client:
            client.flushall()

    def _lose(self, service: Broker | RedisServer, gone_s: float) -> None:
        service.kill()
        time.sleep(gone_s)
        service.start()

    def _freeze_broker(self) -> None:
        self._line.broker.freeze()
        time.sleep(self._gone_s)
        self._line.broker.thaw()


def until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether `condition` came true in time."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.05)
    return True
