"""A whole line, made by the commands that a user would run: untrained encoder, OpenVINO engine, two banks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from quarterturn.worker.commands.main import main
from tests.parts import good_part, png

PRODUCTS = ("ring", "bracket")
LINE = "line-1"


@dataclass(frozen=True)
class MadeLine:
    """Folders and banks of a line; `banks` are two different ones through the same engine."""

    root: Path
    engine: Path
    banks: tuple[Path, Path]


def quarterturn(*arguments: str) -> None:
    assert main(["--log-level", "warning", *arguments]) == 0, arguments


def make_line(root: Path) -> MadeLine:
    """Make it in the folder `root`; takes some seconds."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for product in PRODUCTS:
        folder = root / "parts" / product / "train" / "good"
        folder.mkdir(parents=True)
        for n in range(80):
            (folder / f"{n:03}.png").write_bytes(png(good_part(rng, product)))
    train = {
        "data": {"path": str(root / "parts"), "side": 64, "holdout": 0.5},
        "architecture": {"backbone": "test_resnet", "hidden": 16, "frame": 8, "dimensions": 8},
        "weights": "none",
        "projection": {"steps": 0},
        "head": {"steps": 0},
        "out": str(root / "model"),
    }
    build = {"model": str(root / "model"), "out": str(root / "engine"), "targets": ["openvino"], "views": 4}
    (root / "train.yaml").write_text(yaml.safe_dump(train))
    (root / "build.yaml").write_text(yaml.safe_dump(build))
    quarterturn("train", "--config", str(root / "train.yaml"))
    quarterturn("build", "--config", str(root / "build.yaml"))
    banks = (root / "first.bank", root / "second.bank")
    for path, coreset in zip(banks, (1000, 10), strict=True):
        bank = {
            "engine": {"path": str(root / "engine")},
            "data": str(root / "parts"),
            "overkill": 0.05,
            "scoring": {"detectors": ["frame", "nearest.deep"], "coreset": coreset},
            "out": str(path),
        }
        (root / "bank.yaml").write_text(yaml.safe_dump(bank))
        quarterturn("bank", "fit", "--config", str(root / "bank.yaml"))
    return MadeLine(root, root / "engine", banks)
