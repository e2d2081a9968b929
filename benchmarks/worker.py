"""The whole worker through a real Kafka and Redis, beside decoding and engine alone, on the same cores.

    python -m benchmarks.worker --engine out/demo/engine --bank out/demo/line.bank --data out/demo/parts

Frames are JPEGs of several sizes, made of the pictures of `--data`. Of each: frames/s of a worker that finds them all
waiting, as a share of what decoding and the engine alone reach in turn; milliseconds a frame in each stage, and of
processor time in the worker, in each of its stages, and in the broker. Of the smallest: the time from publishing a
frame to its verdict when half, four fifths and all of that speed are published; from a worker's start to its first
verdict; several workers.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.figures import Figure, table
from benchmarks.load import Followed, Line, Place, cpu_s, peak_mb, place, resident_mb
from quarterturn.worker.contract.arrays import Picture
from quarterturn.worker.contract.framing import cut
from quarterturn.worker.fitting.bank_file import read_bank_file, write_bank_file
from quarterturn.worker.pictures.folders import list_pictures
from quarterturn.worker.pictures.read import read_picture, see
from quarterturn.worker.runtime.assemble import open_engine
from quarterturn.worker.runtime.memory import keep_freed_memory
from quarterturn.worker.settings.worker import EngineSettings

MEGAPIXELS = (0.3, 1.0, 5.0, 12.0)
SHARES = (0.5, 0.8, 1.0)  # of a worker's speed, at which latency is measured
STAGES = ("decodeMs", "embedMs", "scoreMs")
PART = "worker"
_QUALITY = 90  # of the JPEGs
_PICTURES = 32
_BATCH = 8
_FRAMES_S = 12.0  # how long a measurement of speed should take
_PACED_S = 40.0  # so that one stall of the machine is not the last percent
_BRIEF = 250  # frames that show a worker's speed
_LONE = 60  # frames that show how long the engine takes for one
_LONE_PACED_S = 10.0  # how long that is measured at the pace of a load, before and after it
_SWAPS = 10
_SETTLED_S = 2.0  # after a swap


@dataclass(frozen=True)
class Alone:
    """What decoding and the engine reach in turn, with nothing else in the process."""

    frames_s: float
    cpu_ms: float


@dataclass(frozen=True)
class Drained:
    """What a worker did with frames that all waited for it; times are milliseconds a frame."""

    frames_s: float
    worker_cpu_ms: float
    broker_cpu_ms: float
    stages: dict[str, float]
    rss_mb: float


def main() -> None:
    keep_freed_memory()
    arguments = parse()
    with (
        tempfile.TemporaryDirectory() as scratch,
        place(arguments.engine, arguments.target, arguments.bank, Path(scratch)) as at,
    ):
        figures = measure(at, arguments.data, arguments.rounds)
    print(table(figures), end="")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="any folder of pictures")
    parser.add_argument("--target", default="openvino")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def measure(at: Place, data: Path, rounds: int) -> list[Figure]:
    """All figures of this part."""
    pictures = [read_picture(path) for path in list_pictures(data)[:_PICTURES]]
    product = read_bank_file(at.bank).products[0]
    small = [jpeg(one, MEGAPIXELS[0]) for one in pictures]
    figures = loaded(at, small, f"{MEGAPIXELS[0]:g} MP, 8 cameras", 8, product, rounds)
    for megapixels in MEGAPIXELS:
        encoded = [jpeg(one, megapixels) for one in pictures]
        figures += loaded(at, encoded, f"{megapixels:g} MP", 1, product, rounds)
    for share in SHARES:
        # The speed anew for each: a virtual machine's drifts by a third within minutes.
        figures += paced(at, small, product, share, drain(at, small, 1, product, _BRIEF).frames_s)
    figures += swapped(at, small, product)
    figures.append(Figure(PART, "start to first verdict", (cold_start(at, small, product),), "s", "less"))
    speed = drain(at, small, 1, product, _BRIEF).frames_s
    for workers in (2, 4):
        speeds = (several(at, small, product, workers, speed),)
        figures.append(Figure(PART, f"{workers} workers, 4 partitions", speeds, "frames/s", "more"))
    return figures


def loaded(  # noqa: PLR0917
    at: Place, encoded: Sequence[bytes], name: str, cameras: int, product: str, rounds: int
) -> list[Figure]:
    """Decoding and engine alone, then the worker, in turn."""
    found = []
    for _ in range(rounds):
        bare = alone(at, encoded)
        found.append((bare, drain(at, encoded, cameras, product, round(_FRAMES_S * bare.frames_s))))
    line, count = Line(at, cameras, cameras, _BATCH, product), round(_FRAMES_S / 2 * found[0][0].frames_s)
    line.publish(encoded, count)
    return figures_of(name, found) + [
        Figure(PART, f"{name}: processor time of {stage}", (ms,), "ms/frame", "less")
        for stage, ms in line.staged(count).items()
    ]


def jpeg(picture: Picture, megapixels: float) -> bytes:
    """The picture with so many pixels, its shape kept, as a JPEG."""
    height, width = picture.shape[:2]
    factor = (megapixels * 1e6 / (height * width)) ** 0.5
    resized = cv2.resize(picture, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_CUBIC)
    options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(resized, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def alone(at: Place, encoded: Sequence[bytes]) -> Alone:
    """Decoding by two threads and the engine, in turn: what a worker that did nothing else would reach."""
    with (
        closing(open_engine(EngineSettings(path=at.engine, target=at.target))) as engine,
        ThreadPoolExecutor(2) as pool,
    ):

        def frames(data: bytes) -> Any:
            return cut(see(data, engine.spec.framing).pixels, engine.spec.framing)[0]

        def one_batch(start: int) -> None:
            chosen = [encoded[(start + n) % len(encoded)] for n in range(_BATCH)]
            engine.embed(np.concatenate(list(pool.map(frames, chosen))))

        one_batch(0)
        count, started_s, cpu_started_s = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - started_s < _FRAMES_S / 2:
            one_batch(count)
            count += _BATCH
        seconds, busy_s = time.perf_counter() - started_s, time.process_time() - cpu_started_s
        return Alone(count / seconds, 1000 * busy_s / count)


def drain(at: Place, encoded: Sequence[bytes], cameras: int, product: str, count: int) -> Drained:
    """One worker, `count` frames waiting. From the first batch to the last: starting is not part of the speed."""
    line = Line(at, cameras, cameras, _BATCH, product)
    line.publish(encoded, count)
    first = threading.Event()
    with line.worker() as process, ThreadPoolExecutor(1) as pool:
        followed = pool.submit(line.follow, count, first)
        first.wait()
        before = cpu_s(process.pid), cpu_s(at.broker_pid)
        found = followed.result()
        after = cpu_s(process.pid), cpu_s(at.broker_pid)
        rss_mb = peak_mb(process.pid)
    worker_ms, broker_ms = (1000 * (b - a) / (count - _BATCH) for a, b in zip(before, after, strict=True))
    return Drained(speed_of(found), worker_ms, broker_ms, stages_of(found), rss_mb)


def speed_of(found: Followed) -> float:
    """Frames/s behind the first batch: its verdicts come at once, and starting was part of its time."""
    first = next(n for n, times in enumerate(_times(found)) if times != next(_times(found)))
    return (len(found.arrivals) - first) / (found.arrivals[-1] - found.arrivals[first - 1])


def stages_of(found: Followed) -> dict[str, float]:
    """Milliseconds a frame in each stage: what a batch took, by its frames."""
    batches = [(one, len(list(group))) for one, group in groupby(_times(found))]
    frames = sum(size for _, size in batches)
    return {stage: sum(times[n] for times, _ in batches) / frames for n, stage in enumerate(STAGES)}


def _times(found: Followed) -> Iterator[tuple[float, ...]]:
    for verdict in found.verdicts:
        yield tuple(verdict["processingTimes"][stage] for stage in STAGES)


def figures_of(name: str, found: Sequence[tuple[Alone, Drained]]) -> list[Figure]:
    """What the rounds of one load gave."""
    drained = [one for _, one in found]

    def figure(what: str, values: Sequence[float], unit: str, better: Any = "less") -> Figure:
        return Figure(PART, f"{name}: {what}", tuple(values), unit, better)

    return [
        figure("decoding and engine alone", [bare.frames_s for bare, _ in found], "frames/s", "more"),
        figure("worker", [one.frames_s for one in drained], "frames/s", "more"),
        figure("share of both alone", [100 * one.frames_s / bare.frames_s for bare, one in found], "%", "more"),
        figure(
            "the same of processor time", [100 * bare.cpu_ms / one.worker_cpu_ms for bare, one in found], "%", "more"
        ),
        *(figure(stage.removesuffix("Ms"), [one.stages[stage] for one in drained], "ms/frame") for stage in STAGES),
        figure("worker's processor time", [one.worker_cpu_ms for one in drained], "ms/frame"),
        figure("broker's processor time", [one.broker_cpu_ms for one in drained], "ms/frame"),
        figure("worker's peak memory", [one.rss_mb for one in drained], "MB"),
    ]


def paced(at: Place, encoded: Sequence[bytes], product: str, share: float, speed: float) -> list[Figure]:
    """From a frame's publishing to its verdict, when so large a share of the worker's speed is published.

    And what 99% need beside twice the engine's time for a lone frame and 10 ms; that is measured before and after. So
    is what 99% need in the engine with nothing beside it: what the machine alone does to the last percent.
    """
    line, rate = Line(at, 1, 1, _BATCH, product), share * speed

    def alone_ms() -> tuple[float, list[float]]:
        in_a_row = lone_ms(at, encoded, _LONE)
        return float(np.median(in_a_row)), lone_ms(at, encoded, round(_LONE_PACED_S * rate), rate)

    engine_before_ms, paced_before_ms = alone_ms()
    warm = max(8, round(2 * rate))
    count = warm + round(_PACED_S * rate)
    with line.worker(), ThreadPoolExecutor(1) as pool:
        started = threading.Event()
        followed = pool.submit(line.follow, count + 1, started)
        line.publish(encoded, 1)
        started.wait()  # the worker is at work
        line.publish(encoded, count, rate)
        found = followed.result()
    waits = [
        1000 * (arrival - float(verdict["partId"]))
        for arrival, verdict in zip(found.arrivals, found.verdicts, strict=True)
    ]
    name, counted = f"publish to verdict at {share:.0%} of capacity", np.array(waits[warm + 1 :])
    engine_after_ms, paced_after_ms = alone_ms()
    p99, bound = float(np.quantile(counted, 0.99)), engine_before_ms + engine_after_ms + 10
    engine_p99 = float(np.quantile(paced_before_ms + paced_after_ms, 0.99))
    return [
        *(
            Figure(PART, f"{name}: {what}", (float(value),), "ms", "less")
            for what, value in (("p50", np.median(counted)), ("p99", p99), ("max", counted.max()))
        ),
        Figure(PART, f"{name}: p99 of twice the engine's time and 10 ms", (100 * p99 / bound,), "%", "less"),
        Figure(PART, f"{name}: p99 of the engine alone", (engine_p99,), "ms", "less"),
    ]


def lone_ms(at: Place, encoded: Sequence[bytes], count: int, rate: float | None = None) -> list[float]:
    """Milliseconds that the engine takes for each of some frames that come alone, `rate` a second (None: in a row)."""
    with closing(open_engine(EngineSettings(path=at.engine, target=at.target))) as engine:
        framing, taken = engine.spec.framing, []
        frames = [cut(see(data, framing).pixels, framing)[0] for data in encoded[:4]]
        engine.embed(frames[0])
        due_s = time.perf_counter()
        for n in range(count):
            if rate is not None:
                time.sleep(max(0.0, due_s + n / rate - time.perf_counter()))
            started_s = time.perf_counter()
            engine.embed(frames[n % len(frames)])
            taken.append(1000 * (time.perf_counter() - started_s))
    return taken


def swapped(at: Place, encoded: Sequence[bytes], product: str) -> list[Figure]:
    """Resident memory of a worker before and after its bank was exchanged some times, with frames in between."""
    bank, other = read_bank_file(at.bank), at.scratch / "other.bank"
    write_bank_file(other, replace(bank, manifest=bank.manifest.model_copy(update={"created_at": "later"})))
    line, count = Line(at, 1, 1, _BATCH, product), 8 * _BATCH
    with line.worker() as process:
        line.publish(encoded, count)
        found = line.follow(count)
        before = resident_mb(process.pid)
        for n in range(_SWAPS):
            line.push(at.bank if n % 2 else other)
            count += 4 * _BATCH
            line.publish(encoded, 4 * _BATCH)
            found = line.follow(count)
        assert len({one["internalConfigurationId"] for one in found.verdicts}) == 2, "the bank was not exchanged"
        time.sleep(_SETTLED_S)
        after, peak = resident_mb(process.pid), peak_mb(process.pid)
    return [
        Figure(PART, f"resident before, after {_SWAPS} swaps of the bank", (before, after), "MB", "less"),
        Figure(PART, "peak memory with swaps of the bank", (peak,), "MB", "less"),
    ]


def cold_start(at: Place, encoded: Sequence[bytes], product: str) -> float:
    """Seconds from starting a worker to its first verdict, a frame waiting."""
    line = Line(at, 1, 1, _BATCH, product)
    line.publish(encoded, 1)
    started_s = time.perf_counter()
    with line.worker():
        return line.follow(1).arrivals[0] - started_s


def several(at: Place, encoded: Sequence[bytes], product: str, workers: int, speed: float) -> float:
    """Frames/s of several workers in one group, all frames waiting."""
    line = Line(at, 4, 4, _BATCH, product)
    count = round(speed * _FRAMES_S * 2)
    line.publish(encoded, count)
    with ExitStack() as stack:
        for _ in range(workers):
            stack.enter_context(line.worker())
        arrivals = line.follow(count).arrivals
    half = count // 4  # by then all have started
    return (count - half - 1) / (arrivals[-1] - arrivals[half])


if __name__ == "__main__":
    main()
