"""The demo's settings: `configs/demo.yaml`, which holds the settings of every step of the way."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from quarterturn.engine_build.config import BuildSettings
from quarterturn.trainer.config import TrainSettings
from quarterturn.worker.contract.settings import Settings, load_settings
from quarterturn.worker.settings.bank import FitSettings
from quarterturn.worker.settings.worker import Overkill


class DemoFitSettings(FitSettings):
    """As `configs/bank.yaml`, but with an overkill that the rendered parts have calibration pictures enough for."""

    overkill: Overkill = 0.02


class DemoSettings(Settings):
    """One section for each step; folders are filled in by the command line's `--out` and `--data`."""

    train: TrainSettings
    build: BuildSettings = BuildSettings()
    bank: DemoFitSettings
    raw: bool = Field(default=True, description="whether to compare with the raw backbone, of which nothing is trained")


def settings_for(config: Path, data: Path, out: Path, overrides: Sequence[str]) -> DemoSettings:
    """The settings file and the environment, with the folders of every step below `out`, and `overrides` over them.

    The bank looks at the region that the encoder learned from, at its bit depth, unless it has them of its own.

    Raises:
        ConfigError: the file, a variable or an override does not fit.
    """
    places = [
        f"train.data.path={data}",
        f"train.out={out / 'model'}",
        f"build.model={out / 'model'}",
        f"build.out={out / 'engine'}",
        f"bank.data={data}",
        f"bank.engine.path={out / 'engine'}",
        f"bank.out={out / 'line.bank'}",
    ]
    settings = load_settings(config, DemoSettings, [*places, *overrides], os.environ)
    learned_from, bank = settings.train.data, settings.bank
    looked_at = {"region": bank.region or learned_from.region, "bit_depth": bank.bit_depth or learned_from.bit_depth}
    bank = bank.model_copy(update=looked_at)
    return settings.model_copy(update={"bank": bank})
