"""The oracle: an independent client reads what was committed, and every frame is accounted for."""

from __future__ import annotations

import json
import math
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, Message, TopicPartition

from tests.chaos.line import CAMERAS, Expected, Line, Place

_STANDSTILL_S = 90.0


@dataclass(frozen=True)
class Account:
    """What became of the frames; `faults` are sentences, and none is wanted."""

    frames: int
    verdicts: int
    alerts: int
    dead_letters: int
    lost: int
    doubled: int
    faults: tuple[str, ...]


class Ledger:
    """Follows the results in a thread while in a `with` block."""

    def __init__(self, line: Line, expected: Mapping[tuple[str, str], Expected]) -> None:
        self._line = line
        self._expected = expected
        self._outcomes: Counter[Place] = Counter()
        self._alerts: Counter[Place] = Counter()
        self._wanted_alerts: set[Place] = set()
        self._kinds: Counter[str] = Counter()
        self._last: dict[tuple[str, int], int] = {}
        self._seen_s: list[list[float]] = [[] for _ in CAMERAS]
        self._unchecked: list[tuple[Place, str, str | None, float]] = []
        self._faults: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="ledger", daemon=True)

    def __enter__(self) -> Ledger:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def count(self) -> int:
        """Frames that have an outcome."""
        return len(self._outcomes)

    def wait_for(self, frames: int) -> bool:
        """Wait until so many frames have an outcome; False when none comes for a while."""
        done, since_s = self.count, time.monotonic()
        while self.count < frames:
            if self.count > done:
                done, since_s = self.count, time.monotonic()
            elif time.monotonic() - since_s > _STANDSTILL_S:
                return False
            time.sleep(0.05)
        return True

    def recovery_s(self, fault_s: float) -> float | None:
        """Seconds from a fault until each partition had results again; None where one has had none since."""
        firsts = []
        for times in self._seen_s:
            after = bisect_right(times, fault_s)
            if after == len(times):
                return None
            firsts.append(times[after] - fault_s)
        return max(firsts)

    def account(self) -> Account:
        """Compare with what was published. To be called when the cameras have stopped."""
        published = self._line.published
        for place, bank, alert, score in self._unchecked:
            self._check(place, bank, alert, score)
        faults = list(self._faults)
        numbers = Counter(number for number, _ in published.values())
        if twice := [number for number, times in numbers.items() if times > 1]:
            faults.append(f"{len(twice)} frames were published twice: the cameras' fault, and each has its result")
        if unknown := set(self._outcomes) - set(published):
            faults.append(f"{len(unknown)} results of frames that nobody sent, such as {min(unknown)}")
        if missing := self._wanted_alerts - set(self._alerts):
            faults.append(f"{len(missing)} verdicts without their alert, such as {min(missing)}")
        if extra := set(self._alerts) - self._wanted_alerts:
            faults.append(f"{len(extra)} alerts without their verdict, such as {min(extra)}")
        if again := [place for place, times in self._alerts.items() if times > 1]:
            faults.append(f"{len(again)} alerts came twice, such as {min(again)}")
        return Account(
            frames=len(published),
            verdicts=self._kinds["verdict"],
            alerts=self._kinds["alert"],
            dead_letters=self._kinds["dead_letter"],
            lost=len(set(published) - set(self._outcomes)),
            doubled=sum(times - 1 for times in self._outcomes.values()),
            faults=tuple(faults),
        )

    def _follow(self) -> None:
        topics = self._line.topics
        options = {"isolation.level": "read_committed", "enable.auto.commit": False, "fetch.wait.max.ms": 100}
        consumer = Consumer(
            {"bootstrap.servers": self._line.broker.bootstrap, "group.id": "ledger", "log_level": 0, **options}
        )
        consumer.assign([TopicPartition(name, 0, 0) for name in (topics.verdicts, topics.alerts, topics.dead_letters)])
        messages: list[Message] = []
        while messages or not self._stopping.is_set():
            messages = consumer.consume(500, timeout=0.5 if not self._stopping.is_set() else 3)
            for message in messages:
                if message.error() is None:  # else the broker is gone, and the client comes back by itself
                    self._enter(message)
        consumer.close()

    def _enter(self, message: Message) -> None:
        data = json.loads(message.value())
        kind = dict(message.headers())["ce_type"].decode().split(".")[1]
        place = (data["frame"]["partition"], data["frame"]["offset"])
        self._kinds[kind] += 1
        if place[1] < self._last.get((kind, place[0]), -1):
            self._faults.append(f"{kind} of {place} came after that of offset {self._last[kind, place[0]]}")
        self._last[kind, place[0]] = place[1]
        if kind == "alert":
            self._alerts[place] += 1
            return
        self._outcomes[place] += 1
        self._seen_s[place[0]].append(time.monotonic())
        if kind == "dead_letter":
            self._unchecked.append((place, "", data["reason"], 0.0))
            return
        if data["alert"]:
            self._wanted_alerts.add(place)
        self._unchecked.append((place, data["internalConfigurationId"], data["alert"], data["score"]))

    def _check(self, place: Place, bank: str, alert: str | None, score: float) -> None:
        if place not in self._line.published:
            return  # said elsewhere
        _, picture = self._line.published[place]
        if picture == "cut":
            if (bank, alert) != ("", "truncated"):
                self._faults.append(f"{place} is cut off, and got {alert or 'a verdict'}")
            return
        wanted = self._expected.get((picture, bank))
        if wanted is None:
            self._faults.append(f"{place} shows {picture}, and got {alert} by bank {bank or 'none'}")
        elif wanted.alert != alert or not math.isclose(wanted.score, score, rel_tol=1e-3):
            self._faults.append(f"{place} shows {picture}, and got {alert} {score} instead of {wanted}")
