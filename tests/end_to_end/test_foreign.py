"""Frames without a part, and spoilt ones, before the default network with its published weights: each is an alert."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.foreign import FOREIGN, judged_as
from benchmarks.spoilt import SPOILT, inspecting
from quarterturn.demo.render import render_line
from quarterturn.engine_build.build import build
from quarterturn.engine_build.config import BuildSettings
from quarterturn.trainer.config import TrainSettings
from quarterturn.trainer.train import train
from quarterturn.worker.contract.bank import ScoringSettings
from quarterturn.worker.engine.base import Engine
from quarterturn.worker.fitting.fit import fit_bank
from quarterturn.worker.fitting.split import split_pictures
from quarterturn.worker.inspection.judge import Judge
from quarterturn.worker.pictures.read import read_picture
from quarterturn.worker.pictures.sets import good_pictures
from quarterturn.worker.runtime.assemble import open_engine
from quarterturn.worker.settings.worker import EngineSettings

_HOLDOUT, _OVERKILL = 0.35, 0.05
_MAY_PASS = {"red for blue", "colour cast", "mirrored", "turned by 10°"}  # steel is grey, and may lie a little turned

pytestmark = pytest.mark.timeout(600)  # the first test trains an encoder


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plant")
    render_line(folder, train=80, test=8, defects=0)
    return folder


@pytest.fixture(scope="module")
def line(plant: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Judge]:
    out = tmp_path_factory.mktemp("line")
    recipe = {"projection": {"steps": 60, "pictures": 60}, "head": {"steps": 60, "frames": 60}}
    train(TrainSettings.model_validate({"data": {"path": plant, "holdout": _HOLDOUT}, "out": out / "model", **recipe}))
    build(BuildSettings(model=out / "model", out=out / "engine", targets=("openvino",)), progress=False)
    engine = open_engine(EngineSettings(path=out / "engine"))
    bank = fit_bank(engine, split_pictures(plant, None, _HOLDOUT), ScoringSettings(), _OVERKILL)
    return engine, Judge.of(bank, _OVERKILL, {})


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_frame_is_an_alert(line: tuple[Engine, Judge], plant: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    for product, paths in good_pictures(plant).items():
        pictures = [FOREIGN[kind](rng, read_picture(path)) for path in paths[:4]]
        judged = judged_as(*line, product, pictures)
        assert len(judged) == 4
        assert all(one.alert for one in judged), f"{product}: {[one.score / one.threshold for one in judged]}"


@pytest.mark.parametrize("kind", sorted(SPOILT.keys() - _MAY_PASS))
def test_a_spoilt_frame_is_an_alert(line: tuple[Engine, Judge], plant: Path, kind: str) -> None:
    """As a worker says it: by the picture guard, or by the score."""
    engine, judge = line
    rng = np.random.default_rng(0)
    with inspecting(engine, judge.bank, _OVERKILL) as inspect:
        for product, paths in good_pictures(plant).items():
            found = inspect(product, [SPOILT[kind](rng, read_picture(path)) for path in paths[:4]])
            assert len(found) == 4
            assert all(data.alert for data in found), f"{product}: {[data.score / data.threshold for data in found]}"


def test_most_good_frames_are_none(line: tuple[Engine, Judge], plant: Path) -> None:
    """So the tests above cannot pass because everything is an alert."""
    engine, judge = line
    with inspecting(engine, judge.bank, _OVERKILL) as inspect:
        for product in good_pictures(plant):
            pictures = [read_picture(path) for path in sorted((plant / product / "test" / "good").iterdir())]
            assert sum(one.alert is None for one in judged_as(*line, product, pictures)) >= 6
            assert sum(data.alert is None for data in inspect(product, pictures)) >= 6
