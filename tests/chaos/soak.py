"""One worker for a long time: `make soak`, or `python -m tests.chaos.soak [--minutes N] [--rate N]`.

Frames at a steady rate and a bank swap a minute; the worker's memory, file handles, threads and lag are sampled and
plotted, and their slopes printed: flat is the target. The exit code says whether frames were lost, or memory grew.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from tests.chaos.ledger import Account, Ledger
from tests.chaos.line import BankSwaps, Cameras, Line, Worker, line
from tests.lines import make_line
from tests.services import ServiceError

_SAMPLES = 500
_WARM_UP = 0.25  # of the time: caches fill, and the slope is that of the rest
_GROWTH = 0.03  # of the memory, from the end of the warm-up: more is no noise


@dataclass(frozen=True)
class Sample:
    """What the worker holds at one time, and how many frames have no result yet."""

    minutes: float
    memory_mb: float
    handles: int
    threads: int
    lag: int


@dataclass(frozen=True)
class Slope:
    """Least squares over the time after the warm-up: per hour, with its standard error; `level` is the mean."""

    name: str
    per_hour: float
    error: float
    level: float


def slopes(samples: Sequence[Sample]) -> list[Slope]:
    rows = np.array([astuple(sample) for sample in samples], np.float64)
    rows = rows[rows[:, 0] >= _WARM_UP * rows[-1, 0]]
    hours = rows[:, 0] / 60
    centred = hours - hours.mean()
    found = []
    for field, values in zip(fields(Sample)[1:], rows.T[1:], strict=True):
        per_hour = float(centred @ values / (centred @ centred))
        rest = values - values.mean() - per_hour * centred
        error = float(np.sqrt(rest @ rest / max(len(rest) - 2, 1) / (centred @ centred)))
        found.append(Slope(field.name, per_hour, error, float(values.mean())))
    return found


def grows(samples: Sequence[Sample]) -> bool:
    """Whether memory grew by more than noise after the warm-up, by its slope less twice the slope's error."""
    memory = slopes(samples)[0]
    hours = (1 - _WARM_UP) * samples[-1].minutes / 60
    return (memory.per_hour - 2 * memory.error) * hours > _GROWTH * memory.level


def soak(line: Line, minutes: float, rate: float) -> tuple[list[Sample], Account, int]:
    """The samples, what became of the frames, and how often the bank was swapped."""
    samples: list[Sample] = []
    with Ledger(line, line.expected()) as ledger:
        worker = Worker(line.config("worker"))
        try:
            cameras, swaps = Cameras(line, rate, 0), BankSwaps(line, 60.0)
            cameras.start()
            swaps.start()
            began_s = time.monotonic()
            while (now_s := time.monotonic() - began_s) < minutes * 60:
                if worker.code is not None:
                    raise ServiceError(f"the worker left with {worker.code}: {worker.log.read_text()[-2000:]}")
                if worker.joined:
                    samples.append(sample(worker.pid, now_s / 60, len(line.published) - ledger.count))
                time.sleep(minutes * 60 / _SAMPLES)
            cameras.stop()
            swaps.stop()
            ledger.wait_for(len(line.published))
        finally:
            worker.end()
    return samples, ledger.account(), swaps.swaps


def sample(pid: int, minutes: float, lag: int) -> Sample:
    process = Path("/proc", str(pid))
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    handles = sum(1 for _ in (process / "fd").iterdir())
    return Sample(minutes, int(status["VmRSS"].split()[0]) / 1024, handles, int(status["Threads"]), lag)


def plot(samples: Sequence[Sample], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    names = [field.name for field in fields(Sample)[1:]]
    figure, axes = pyplot.subplots(len(names), 1, sharex=True, figsize=(9, 9), layout="constrained")
    minutes = [sample.minutes for sample in samples]
    for axis, name, slope in zip(axes, names, slopes(samples), strict=True):
        values = [getattr(sample, name) for sample in samples]
        axis.plot(minutes, values, linewidth=1)
        axis.set_title(f"{name.replace('_', ' ')}: {slope.per_hour:+.2f} ± {slope.error:.2f} an hour", loc="left")
        axis.set_ylim(0, 1.15 * max(values) + 1)
        axis.axvspan(0, _WARM_UP * minutes[-1], alpha=0.1)
    axes[-1].set_xlabel("minutes (shaded: warm-up, not in the slopes)")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description="One worker for a long time.")
    parser.add_argument("--minutes", type=float, default=60, help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=50, help="frames per second; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("out/soak"), metavar="DIR", help="default: %(default)s")
    parsed = parser.parse_args(arguments)
    parsed.out.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quarterturn-soak-")))
            soaked = stack.enter_context(line(make_line(folder / "line"), folder))
            samples, account, swaps = soak(soaked, parsed.minutes, parsed.rate)
    except ServiceError as error:
        sys.exit(f"error: {error}")
    with (parsed.out / "samples.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[field.name for field in fields(Sample)], *map(astuple, samples)])
    plot(samples, parsed.out / "soak.png")
    print(f"{account.frames} frames in {parsed.minutes:g} minutes, {swaps} bank swaps")
    print(f"lost {account.lost}, doubled {account.doubled}, other faults {len(account.faults)}")
    print("| | mean | slope per hour | ± |\n|---|---:|---:|---:|")
    for slope in slopes(samples):
        print(f"| {slope.name.replace('_', ' ')} | {slope.level:.1f} | {slope.per_hour:+.2f} | {slope.error:.2f} |")
    print(f"wrote {parsed.out / 'soak.png'}")
    return int(grows(samples) or bool(account.lost or account.doubled or account.faults))


if __name__ == "__main__":
    sys.exit(main())
