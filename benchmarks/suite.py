"""Everything about speed, in one run: `make bench`. Needs a machine with nothing beside it.

    python -m benchmarks.suite --out out/bench [--part worker] [--rounds 3] [--peers PYTHON DATA/kolektorsdd/tiles]

Renders the demo's parts, trains on them with few steps (which speed does not depend on), builds, fits a bank, and
measures with that. Prints a Markdown table; `--out` gets it, all values as JSON, and what is kept of the preparation.
The medians are appended to benchmarks/results/history.jsonl; what is clearly worse than this machine's last runs is
said, and the exit code is 1. The peers need an environment of their own, see benchmarks.peers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import banks, engines, figures, peers, tiles, worker
from benchmarks.accuracy import name_of
from benchmarks.figures import Figure
from benchmarks.load import place
from quarterturn.demo.config import settings_for
from quarterturn.demo.fit import fit_line
from quarterturn.demo.render import render_line
from quarterturn.engine_build.build import build
from quarterturn.trainer.train import train
from quarterturn.worker.runtime.memory import keep_freed_memory

SETTINGS = Path("configs/demo.yaml")
PARTS = ("engine", "bank", "training", "worker", "peers")
_QUICK = ("train.projection.steps=50", "train.head.steps=50")


@dataclass(frozen=True)
class Prepared:
    """What is measured with, and how long it took."""

    model: Path
    engine: Path
    bank: Path
    data: Path
    training: tuple[Figure, ...]


def main() -> int:
    keep_freed_memory()
    arguments = parse()
    prepared = prepare(arguments.out)
    found: list[Figure] = []
    for part in arguments.part or PARTS:
        print(f"measuring: {part}", file=sys.stderr, flush=True)
        if part != "peers":
            found += measure(part, prepared, arguments.rounds)
        elif arguments.peers is None:
            print("peers are left out: see --peers", file=sys.stderr)
        else:
            found += beside_peers(*arguments.peers, out=arguments.out, rounds=arguments.rounds)
    (arguments.out / "bench.json").write_text(figures.to_json(found), encoding="utf-8")
    (arguments.out / "bench.md").write_text(figures.table(found), encoding="utf-8")
    print(figures.table(found), end="")
    worse = figures.regressions(found)
    for sentence in worse:
        print(sentence)
    figures.remember(found)
    return 1 if worse else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated; default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--peers",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="the Python of an environment that has anomalib, then sets",
    )
    return parser.parse_args()


def prepare(out: Path) -> Prepared:
    """Pictures, a model, an engine and a bank below `out`."""
    data = out / "parts"
    settings = settings_for(SETTINGS, data, out, _QUICK)
    fit = settings.bank
    return Prepared(
        settings.train.out,
        fit.engine.path,
        fit.out,
        data,
        (
            _timed("rendering", lambda: render_line(data, seed=0)),
            _timed("training, 50 steps each", lambda: train(settings.train, progress=False)),
            _timed("engine", lambda: build(settings.build, progress=False)),
            _timed("bank", lambda: fit_line(settings)),
        ),
    )


def measure(part: str, prepared: Prepared, rounds: int) -> list[Figure]:
    """The figures of one part."""
    if part == "engine":
        return engines.measure(prepared.model, prepared.engine, rounds)
    if part == "bank":
        return banks.measure(prepared.engine, prepared.bank, prepared.data)
    if part == "training":
        return list(prepared.training)
    with (
        tempfile.TemporaryDirectory() as scratch,
        place(prepared.engine, "openvino", prepared.bank, Path(scratch)) as at,
    ):
        found = worker.measure(at, prepared.data, rounds)
    with tempfile.TemporaryDirectory() as scratch:
        return found + tiles.measure(SETTINGS, prepared.data, Path(scratch), rounds)


def beside_peers(python: Path, *sets: Path, out: Path, rounds: int) -> list[Figure]:
    """The figures of that part, on each set."""
    found: list[Figure] = []
    for data in sets:
        name = name_of(data.resolve())
        kept = out.resolve() / "peers" / name.replace("/", "-")
        found += peers.measure(name, peers.models_for(data.resolve(), kept, SETTINGS, python), rounds)
    return found


def _timed(name: str, work: Callable[[], object]) -> Figure:
    started_s = time.perf_counter()
    work()
    return Figure("training", name, (time.perf_counter() - started_s,), "s", "less")


if __name__ == "__main__":
    sys.exit(main())
