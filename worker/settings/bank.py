"""Settings of `quarterturn bank fit`: `configs/bank.yaml`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from quarterturn.worker.contract.bank import ScoringSettings
from quarterturn.worker.contract.calibration import OVERKILL
from quarterturn.worker.contract.picture import Depth, Region
from quarterturn.worker.contract.settings import Settings
from quarterturn.worker.settings.worker import EngineSettings, Overkill


class FitSettings(Settings):
    """`configs/bank.yaml`."""

    data: Path = Field(description="good pictures: the folder that the encoder was trained on, or new products")
    engine: EngineSettings
    calibration: Path | None = Field(
        default=None, description="folder of further good pictures; None: those that training held out of `data`"
    )
    overkill: Overkill = OVERKILL
    scoring: ScoringSettings = ScoringSettings()
    region: Region | None = None
    bit_depth: Depth = None
    out: Path = Field(default=Path("bank.safetensors"), description="the bank's file")
    learned: Path = Field(
        default=Path("state/learned"),
        description="where 'quarterturn bank learn' keeps the pictures that people judged, which Kafka forgets",
    )
