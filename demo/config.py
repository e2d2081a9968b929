"""The demo's settings: `configs/demo.yaml`, which holds the settings of every step of the way."""

from __future__ import annotations

from pydantic import Field

from engine_build.config import BuildSettings
from trainer.config import TrainSettings
from worker.contract.settings import Settings
from worker.fit import FitSettings


class DemoSettings(Settings):
    """One section for each step; folders are filled in by the command line's `--out` and `--data`."""

    train: TrainSettings
    build: BuildSettings
    bank: FitSettings
    untrained: int = Field(default=1, ge=0, description="untrained encoders to compare with, each of another seed")
