"""The demo's settings: `configs/demo.yaml`, which holds the settings of every step of the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from engine_build.config import BuildSettings
from trainer.config import TrainSettings
from worker.contract.settings import Settings, load_settings
from worker.fit import FitSettings


class DemoSettings(Settings):
    """One section for each step; folders are filled in by the command line's `--out` and `--data`."""

    train: TrainSettings
    build: BuildSettings
    bank: FitSettings
    raw: bool = Field(default=True, description="whether to compare with the raw backbone, of which nothing is trained")


def settings_for(config: Path, data: Path, out: Path, overrides: Sequence[str]) -> DemoSettings:
    """The settings file with the folders of every step below `out`, and what `overrides` lay over it.

    Raises:
        ConfigError: the file or an override does not fit.
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
    return load_settings(config, DemoSettings, [*places, *overrides])
