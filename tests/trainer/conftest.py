from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quarterturn.trainer.config import TrainSettings
from tests.parts import good_part, png

MakeSettings = Callable[..., TrainSettings]

SIDE = 64


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Nets this small only lose time by waiting for a second thread."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def parts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two products, eighteen pictures each, of parts that do not look the same when turned."""
    root = tmp_path_factory.mktemp("parts")
    rng = np.random.default_rng(0)
    for product in ("bracket", "ring"):
        (root / "train" / product).mkdir(parents=True)
        for n in range(18):
            (root / "train" / product / f"{n:03}.png").write_bytes(png(good_part(rng, product)))
    return root


@pytest.fixture
def make_settings(parts_folder: Path, tmp_path: Path) -> MakeSettings:
    """`make_settings(seed=3, **{"data.side": 32})`: a run of a second that writes to `tmp_path / "model"`."""

    def make(**changes: Any) -> TrainSettings:
        document: dict[str, Any] = {
            "data": {"path": parts_folder, "side": SIDE},
            "architecture": {"backbone": "test_resnet", "hidden": 16, "frame": 8, "dimensions": 12},
            "weights": "none",
            "projection": {"steps": 6, "batch": 6, "pictures": 16},
            "paste": {"rounds": 2, "size": [3, 16]},
            "head": {"steps": 6, "batch": 4, "frames": 12},
            "device": "cpu",
            "out": tmp_path / "model",
        }
        for key, value in changes.items():
            *parents, leaf = key.split(".")
            section = document
            for parent in parents:
                section = section.setdefault(parent, {})
            section[leaf] = deepcopy(value)  # so that no test changes what another begins with
        return TrainSettings.model_validate(document)

    return make
