from __future__ import annotations

import inspect
import math
from pathlib import Path

from demo.config import settings_for
from demo.render import render_line
from trainer.config import DataSettings, TrainSettings
from worker.contract.pictures import hold_out, split_held_out

CONFIG = Path(__file__).parents[2] / "configs" / "demo.yaml"


def test_the_demo_trains_by_the_defaults() -> None:
    found = settings_for(CONFIG, Path("parts"), Path("out"), []).train
    assert found == TrainSettings(data=DataSettings(path=Path("parts")), out=Path("out/model"))


def test_the_rendered_parts_are_enough_for_the_overkill_that_is_promised() -> None:
    settings = settings_for(CONFIG, Path("parts"), Path("out"), [])
    rendered = inspect.signature(render_line).parameters["train"].default
    _, held_out = hold_out([Path(f"{n:04}.jpg") for n in range(rendered)], settings.train.data.holdout)
    _, calibrating = split_held_out(held_out)
    assert len(calibrating) >= math.ceil(1 / settings.bank.overkill) - 1
