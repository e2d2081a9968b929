"""Faults without end against a real line: `make chaos`, or `python -m tests.chaos [--frames N] [--kills N] [--seed N]`.

Numbered frames from four cameras, three workers that are killed, frozen and stopped all the time, a broker and a Redis
that come and go, and a bank swapped every second. Then every frame is accounted for: one result each, in order, the
alerts those of an undisturbed worker. Prints a table; the exit code says whether anything was lost, doubled or wrong.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.faults import FREEZES, KILLS, STOPS, Deck, Fate, Record, Supervisor, Weather, until
from tests.chaos.ledger import Account, Ledger
from tests.chaos.line import BankSwaps, Cameras, Worker, line
from tests.lines import MadeLine, make_line
from tests.services import ServiceError


@dataclass(frozen=True)
class Report:
    """What befell the line, and what became of its frames.

    `recoveries_s` holds for each kind of fault how long it took each time; None where no frames were left to show it.
    """

    account: Account
    recoveries_s: dict[str, list[float | None]]
    swaps: int
    defects: tuple[str, ...]
    wall_s: float

    @property
    def clean(self) -> bool:
        return not (self.account.lost or self.account.doubled or self.account.faults or self.defects)

    @property
    def kills(self) -> int:
        return sum(len(times) for name, times in self.recoveries_s.items() if name.startswith("kill -9"))

    def table(self) -> str:
        """Markdown."""
        lines = ["| fault | times | seconds to recover, median | at most |", "|---|---:|---:|---:|"]
        for name, times in sorted(self.recoveries_s.items()):
            known = [seconds for seconds in times if seconds is not None] or [math.nan]
            lines.append(f"| {name} | {len(times)} | {statistics.median(known):.1f} | {max(known):.1f} |")
        one = self.account
        frames = f"{one.frames} frames: {one.verdicts} verdicts ({one.alerts} alerts), {one.dead_letters} dead letters"
        lines += [
            "",
            f"{frames}; {self.kills} kills, {self.swaps} bank swaps, {self.wall_s:.0f} s",
            f"lost {one.lost}, doubled {one.doubled}, other faults {len(one.faults)}, defects {len(self.defects)}",
        ]
        return "\n".join([*lines, *one.faults[:20], *self.defects[:20]]) + "\n"


def chaos(
    made: MadeLine,
    folder: Path,
    fates: Sequence[Fate],
    *,
    frames: int,
    rate: float,
    workers: int,
    outages: int,
    gone_s: float,
    pause_s: float,
    seed: int,
) -> Report:
    """Let `workers` supervisors play all `fates`, at first while services fail, and account for `frames` or more.

    The `outages` are bounded, or on a slow machine the next would come before a worker recovers from the last.
    """
    began_s = time.monotonic()
    with ExitStack() as stack:
        attacked = stack.enter_context(line(made, folder))
        ledger = stack.enter_context(Ledger(attacked, attacked.expected()))
        cameras, swaps, record = Cameras(attacked, rate, frames), BankSwaps(attacked, 1.0), Record()
        weather = Weather(attacked, record, gone_s)
        deck = Deck(fates, random.Random(seed))
        supervisors = [Supervisor(f"worker-{n}", attacked, deck, record, seed) for n in range(workers)]
        for thread in (cameras, swaps, *supervisors):
            thread.start()
        for _ in range(outages):
            if until(lambda: not any(supervisor.is_alive() for supervisor in supervisors), pause_s):
                break
            weather.strike()
        for supervisor in supervisors:
            supervisor.join()
        cameras.stop()
        swaps.stop()
        finish(Worker(attacked.config("last")), len(attacked.published), ledger, record)
    recoveries: dict[str, list[float | None]] = {}
    for event in record.events:
        recoveries.setdefault(event.name, []).append(ledger.recovery_s(event.at_s))
    return Report(ledger.account(), recoveries, swaps.swaps, tuple(record.defects), time.monotonic() - began_s)


def finish(worker: Worker, published: int, ledger: Ledger, record: Record) -> None:
    """An undisturbed worker inspects what is left."""
    try:
        if not ledger.wait_for(published):
            log = worker.log.read_text()[-2000:]
            record.defect(f"the last worker stands still at {ledger.count} of {published} frames: {log}")
    finally:
        worker.end()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--frames", type=int, default=100_000, help="at least; default: %(default)s")
    parser.add_argument("--rate", type=float, default=50, help="frames per second; default: %(default)s")
    parser.add_argument("--kills", type=int, default=200, help="kill -9, at all steps alike; default: %(default)s")
    parser.add_argument("--workers", type=int, default=3, help="at a time; default: %(default)s")
    parser.add_argument(
        "--outages", type=int, default=20, help="of services, all kinds alike, while workers die; default: %(default)s"
    )
    parser.add_argument("--pause", type=float, default=120, metavar="S", help="between outages; default: %(default)s s")
    parser.add_argument(
        "--gone", type=float, default=60, metavar="S", help="outages of services; default: %(default)s s"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/chaos"), metavar="DIR", help="default: %(default)s")
    parsed = parser.parse_args(arguments)
    parsed.out.mkdir(parents=True, exist_ok=True)
    fates = [KILLS[n % len(KILLS)] for n in range(parsed.kills)]
    fates += [fate for fate in (*FREEZES, *STOPS) for _ in range(parsed.kills // 20)]
    with tempfile.TemporaryDirectory(prefix="quarterturn-chaos-") as folder:
        try:
            report = chaos(
                make_line(Path(folder, "line")),
                Path(folder),
                fates,
                frames=parsed.frames,
                rate=parsed.rate,
                workers=parsed.workers,
                outages=parsed.outages,
                gone_s=parsed.gone,
                pause_s=parsed.pause,
                seed=parsed.seed,
            )
        except ServiceError as error:
            sys.exit(f"error: {error}")
    text = report.table()
    (parsed.out / "table.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return int(not report.clean)


if __name__ == "__main__":
    sys.exit(main())
