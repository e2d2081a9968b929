from __future__ import annotations

import inspect
import math
from pathlib import Path

import pytest

from quarterturn.demo.config import settings_for
from quarterturn.demo.render import render_line
from quarterturn.trainer.config import DataSettings, TrainSettings
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.pictures.sets import hold_out, split_held_out

CONFIG = Path(__file__).parents[2] / "configs" / "demo.yaml"


def test_the_demo_trains_by_the_defaults() -> None:
    found = settings_for(CONFIG, Path("parts"), Path("out"), []).train
    assert found == TrainSettings(data=DataSettings(path=Path("parts")), out=Path("out/model"))


def test_folders_of_the_command_line_lie_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"TRAIN__OUT": "mine", "TRAIN__SEED": "7", "BANK__OVERKILL": "0.1", "RAW": "false"}.items():
        monkeypatch.setenv(f"QUARTERTURN_{key}", value)
    found = settings_for(CONFIG, Path("parts"), Path("out"), ["bank.overkill=0.05"])
    assert (found.train.out, found.train.seed, found.bank.overkill, found.raw) == (Path("out/model"), 7, 0.05, False)


def test_the_rendered_parts_are_enough_for_the_overkill_that_is_promised() -> None:
    settings = settings_for(CONFIG, Path("parts"), Path("out"), [])
    rendered = inspect.signature(render_line).parameters["train"].default
    _, held_out = hold_out([Path(f"{n:04}.jpg") for n in range(rendered)], settings.train.data.holdout)
    _, calibrating = split_held_out(held_out)
    assert len(calibrating) >= math.ceil(1 / settings.bank.overkill) - 1


def test_the_bank_has_the_depth_that_the_encoder_learned_at() -> None:
    learned = "train.data.bit_depth=12"
    assert settings_for(CONFIG, Path("data"), Path("out"), []).bank.bit_depth is None
    assert settings_for(CONFIG, Path("data"), Path("out"), [learned]).bank.bit_depth == 12
    assert settings_for(CONFIG, Path("data"), Path("out"), [learned, "bank.bit_depth=10"]).bank.bit_depth == 10


def test_the_bank_looks_where_the_encoder_learned() -> None:
    left, right = ({"x": x, "y": 0, "width": 8, "height": 8} for x in (0, 8))
    learned = f"train.data.region={left}"
    assert settings_for(CONFIG, Path("data"), Path("out"), []).bank.region is None
    assert settings_for(CONFIG, Path("data"), Path("out"), [learned]).bank.region == Region(**left)
    assert settings_for(CONFIG, Path("data"), Path("out"), [learned, f"bank.region={right}"]).bank.region == Region(
        **right
    )
