"""Workers and cameras beside a real broker, and what is asked of their results."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.settings.worker import KafkaSettings, Topics
from quarterturn.worker.transport.base import RewoundError
from quarterturn.worker.transport.kafka.transport import KafkaTransport
from tests import examples
from tests.worker.transport import librdkafka


def settings_for(bootstrap: str, topics: Topics, **changes: object) -> KafkaSettings:
    quick = {"session_timeout_s": 6.0, "give_up_after_s": 30.0, "group": topics.frames}
    return KafkaSettings.model_validate({"bootstrap_servers": bootstrap, "topics": topics, **quick, **changes})


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 40.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} took longer than {timeout_s:g} s"
        time.sleep(0.02)


def poll(transport: KafkaTransport, max_frames: int = 10) -> list[Frame]:
    frames: list[Frame] = []
    wait_until(lambda: bool(frames.extend(transport.poll(max_frames, 0.2)) or frames), "the next frame")
    return frames


def outcomes(frames: list[Frame]) -> list[examples.Outcome]:
    return [examples.outcome(frame) for frame in frames]


class Worker(threading.Thread):
    """Polls one batch ahead of the delivery, as the service does; `pause_s` is what the engine takes for a batch."""

    def __init__(self, settings: KafkaSettings, pause_s: float = 0.0) -> None:
        super().__init__(daemon=True)
        self._pause_s = pause_s
        self.delivered = 0
        self.rewinds = 0
        self.fault: Exception | None = None
        self._transport = KafkaTransport(settings)
        self._stopping = threading.Event()
        self.start()

    @property
    def joined(self) -> bool:
        """Whether it is a member of the group."""
        return self._transport.joined

    @property
    def owns_partitions(self) -> bool:
        """Whether it has a share of the frames."""
        return bool(self._transport.standing.assigned)

    def run(self) -> None:
        in_flight: list[Frame] = []
        try:
            while in_flight or not self._stopping.is_set():
                upcoming = [] if self._stopping.is_set() else self._transport.poll(4, 0.0 if in_flight else 0.1)
                time.sleep(self._pause_s)
                try:
                    if in_flight:
                        self._transport.deliver(outcomes(in_flight))
                        self.delivered += len(in_flight)
                except RewoundError:
                    self.rewinds += 1
                    upcoming = []
                in_flight = upcoming
        except UnavailableError as error:
            self.fault = error
        self._transport.close()

    def stop(self) -> None:
        self._stopping.set()
        self.join(30)
        assert not self.is_alive()


class Camera(threading.Thread):
    """Adds a good and a defect picture to every partition of a topic, some 20 times a second, until stopped."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        super().__init__(daemon=True)
        self._published = 0
        self._topic, self._partitions = topic, partitions
        self._producer = librdkafka.producer(bootstrap)
        self._stopping = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._stopping.wait(0.05):
            for partition in range(self._partitions):
                for data in (b"good", b"defect"):
                    self._producer.produce(self._topic, data, partition=partition, headers=[("camera", b"top-01")])
                    self._published += 1

    def stop(self) -> int:
        """How many frames there are."""
        self._stopping.set()
        self.join(30)
        assert self._producer.flush(20) == 0
        return self._published


def wait_for_both(running: Worker, joining: Worker) -> None:
    before = running.delivered
    wait_until(lambda: joining.delivered > 20 and running.delivered > before + 20, "sharing the partitions")


def assert_exactly_once(bootstrap: str, topics: Topics, published: int) -> None:
    wait_until(lambda: len(librdkafka.consume(bootstrap, topics.verdicts)) >= published, "the last verdict")
    verdicts = [value["resultId"] for value in librdkafka.values(bootstrap, topics.verdicts)]
    alerts = [value["resultId"] for value in librdkafka.values(bootstrap, topics.alerts)]
    assert {count for _, count in Counter(verdicts).items()} == {1}
    assert len(verdicts) == published
    assert len(alerts) == len(set(alerts)) == published // 2
