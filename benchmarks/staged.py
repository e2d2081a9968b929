"""A worker that counts the processor time of each of its stages; run by `benchmarks.worker`.

    python -m benchmarks.staged --config WORKER.YAML --frames 400

It is put together as `quarterturn run` does it, and ends when so many frames are delivered. Prints JSON: milliseconds a
frame in each stage, without the first batch, before which it starts. The system tells the time of a thread, to 10 ms;
within one, calls are timed by its own clock.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from quarterturn.worker.commands.options import add_config, read_config
from quarterturn.worker.inspection import look
from quarterturn.worker.messages.events import Outcome
from quarterturn.worker.runtime.assemble import build_service
from quarterturn.worker.runtime.memory import keep_freed_memory, keep_from_collection
from quarterturn.worker.settings.worker import WorkerSettings
from quarterturn.worker.transport.kafka.transport import KafkaTransport

CALLS = (
    (KafkaTransport, "poll", "fetch"),
    (KafkaTransport, "deliver", "publish and commit"),
    (look, "see", "decode"),
    (look, "cut", "resize"),
)
"""What is timed within a thread, and the stage that it is."""
THREADS = {"decode": "measure", "prepare": "measure", "engine": "engine", "score": "score"}
"""By how a thread's name begins, the stage that the rest of its time is; those of no name are the engine's own, and all
others fetch, publish and commit: they are Kafka's client's."""
_REST = "Kafka's client's threads, and all else"
_TICKS = os.sysconf("SC_CLK_TCK")

Seconds = dict[str, float]


class Clock:
    """Processor time, in seconds, by stage."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], float] = defaultdict(float)  # by stage and thread

    def time(self, stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work`, whose time is that of `stage`."""

        def timed(*arguments: Any, **named: Any) -> Any:
            started_s = time.thread_time()
            try:
                return work(*arguments, **named)
            finally:
                self._calls[stage, threading.current_thread().name] += time.thread_time() - started_s

        return timed

    def read(self) -> Seconds:
        """Until now; calls that are on their way are not in it."""
        calls, threads = dict(self._calls), _threads()
        found: Seconds = defaultdict(float)
        for (stage, thread), seconds in calls.items():
            found[stage] += seconds
            threads[thread] -= seconds
        for thread, seconds in threads.items():
            found[next((stage for begin, stage in THREADS.items() if thread.startswith(begin)), _REST)] += seconds
        return found


def _threads() -> Seconds:
    """The processor time of this process's threads, by their names; of those that Python does not know as "engine"."""
    names = {one.native_id: one.name for one in threading.enumerate()}
    found: Seconds = defaultdict(float)
    for task in Path("/proc/self/task").iterdir():
        fields = (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        found[names.get(int(task.name), "engine")] += (int(fields[11]) + int(fields[12])) / _TICKS
    return found


def main() -> None:
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_config(parser, "configs/worker.yaml")
    parser.add_argument("--frames", type=int, required=True)
    arguments = parser.parse_args()
    print(json.dumps(run(read_config(arguments, WorkerSettings), arguments.frames)))


def run(settings: WorkerSettings, frames: int) -> dict[str, float]:
    """Milliseconds a frame in each stage."""
    clock, stop, delivered = Clock(), threading.Event(), [0]
    readings: list[tuple[int, Seconds]] = []
    deliver = KafkaTransport.deliver

    def counted(self: KafkaTransport, outcomes: Sequence[Outcome]) -> None:
        deliver(self, outcomes)
        delivered[0] += len(outcomes)
        if not readings or delivered[0] >= frames:
            readings.append((delivered[0], clock.read()))
        if delivered[0] >= frames:
            stop.set()

    KafkaTransport.deliver = counted  # type: ignore[method-assign]
    for owner, name, stage in CALLS:
        setattr(owner, name, clock.time(stage, getattr(owner, name)))
    with build_service(settings) as service:
        keep_from_collection()
        service.run(stop)
    (before, first), (after, last) = readings[0], readings[-1]
    return {stage: 1000 * (last[stage] - first[stage]) / (after - before) for stage in last}


if __name__ == "__main__":
    main()
