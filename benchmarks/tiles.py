"""A picture of 12 megapixels in tiles, from its JPEG to its verdict, in process; nothing is trained."""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.worker import jpeg
from quarterturn.demo.config import settings_for
from quarterturn.demo.fit import fit_line
from quarterturn.engine_build.build import build
from quarterturn.trainer.train import train
from quarterturn.worker.fitting.bank_file import read_bank_file
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.pictures.read import read_picture
from quarterturn.worker.pictures.sets import good_pictures
from quarterturn.worker.runtime.assemble import open_engine

TILES = 4  # along the shorter side
_PICTURES = 16  # good ones, for a bank
_CHANGED = (
    "train.projection.steps=0",
    "train.head.steps=0",
    "train.data.fit=tiles",
    f"train.data.tiles={TILES}",
    "bank.overkill=0.2",
)


def measure(config: Path, data: Path, out: Path, rounds: int) -> list[Figure]:
    """Seconds of one picture like the good ones in `data`; the model, engine and bank are made below `out`."""
    pictures = good_pictures(data)
    product, few = next((product, paths[:_PICTURES]) for product, paths in pictures.items())
    for path in few:
        (out / "parts" / product).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, out / "parts" / product)
    settings = settings_for(config, out / "parts", out, _CHANGED)
    train(settings.train, progress=False)
    build(settings.build, progress=False)
    fit_line(settings)
    bank = read_bank_file(settings.bank.out)
    encoded = jpeg(read_picture(few[0]), 12.0)
    headers = {"camera": b"cam", "product": product.encode()}
    with closing(open_engine(settings.bank.engine)) as engine, closing(Inspector(engine, "line", 0.2)) as inspector:
        inspector.use(bank)
        taken = []
        for offset in range(rounds + 1):
            started_s = time.perf_counter()
            inspector.inspect([Frame(Position("frames", 0, offset), None, headers, encoded)])
            taken.append(time.perf_counter() - started_s)
    return [Figure("worker", f"12 MP in {TILES} tiles along the shorter side", tuple(taken[1:]), "s", "less")]
