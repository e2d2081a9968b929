"""What a user of the package has: an engine folder, pictures of one product and a bank, all small and all real."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from quarterturn import EngineSettings, ScoringSettings, fit_bank, open_engine, split_pictures
from tests.worker.dataset import write_product
from tests.worker.engine.graphs import write_engine

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
"""For programs that are to import this very source."""


@dataclass(frozen=True)
class Plant:
    """`pictures` has MVTec's layout: test/good, test/scratch and test/wear, which is good but for its name."""

    root: Path
    engine: Path
    pictures: Path
    bank: Path


def make_plant(root: Path) -> Plant:
    """Make it in the folder `root`, the bank by the public functions alone."""
    plant = Plant(root, write_engine(root / "engine"), root / "ring", root / "bank.safetensors")
    write_product(plant.pictures)
    with closing(open_engine(EngineSettings(path=plant.engine))) as engine:
        bank = fit_bank(engine, split_pictures(plant.pictures, None, 0.5), ScoringSettings(), 0.05)
    plant.bank.write_bytes(bank.blob)
    return plant


def run_python(*arguments: str | Path, cwd: Path) -> str:
    """What a Python program printed; it must end well, and say nothing on stderr."""
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout
