"""The trainer's settings: `configs/train.yaml` as frozen models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from trainer.encoder import Architecture
from worker.contract.preprocess import Region
from worker.contract.settings import Settings

_WITHOUT_EFFECT = ("out", "resume", "tensorboard", "checkpoint_every", "device", "data.path", "data.cache_gib")

Share = Annotated[float, Field(ge=0, le=1)]


class DataSettings(Settings):
    """Which pictures to learn from, and how they become frames of `side` x `side` pixels."""

    path: Path
    side: int = Field(default=128, ge=32, description="pixels; below 32 the last stage would see a single one")
    region: Region | None = None
    holdout: float = Field(default=0.3, gt=0, lt=1, description="share that training never sees; the bank needs it")
    cache_gib: float = Field(default=2.0, ge=0, description="memory for decoded frames; the rest is decoded anew")


class AugmentSettings(Settings):
    """How the two views of a picture are made different."""

    crop: tuple[float, float] = Field(default=(0.3, 1.0), description="smallest and largest share of the area kept")
    flip: Share = Field(default=0.5, description="how often a picture is mirrored, before it is turned")
    jitter: float = Field(default=0.5, ge=0, le=1, description="strength of brightness, contrast, saturation and hue")
    jitter_share: Share = Field(default=0.8, description="how often colours are changed")
    grey: Share = Field(default=0.2, description="how often colours are dropped")

    @model_validator(mode="after")
    def _crop_is_a_range(self) -> AugmentSettings:
        smallest, largest = self.crop
        if not 0 < smallest <= largest <= 1:
            raise ValueError("crop must be [smallest, largest] with 0 < smallest <= largest <= 1")
        return self


class LossSettings(Settings):
    """The multipliers of the masked contrastive loss, named as in arXiv 2105.08793; `spa` is the weight of its SPA.

    The published β is 2. At that, the turns of a product stay on one point for many hundred steps: the pull on the
    views of a picture is far stronger than the push between its turns. At 1/τ they part within a hundred.
    """

    alpha: float = Field(default=0.05, ge=0)
    beta: float = Field(default=5.0, ge=0)
    tau: float = Field(default=0.2, gt=0)
    spa: float = Field(default=1.0, ge=0)


class TrainSettings(Settings):
    """`configs/train.yaml`."""

    data: DataSettings
    architecture: Architecture = Architecture()
    init: Path | None = Field(default=None, description="weights of a torchvision ResNet to start from")
    augment: AugmentSettings = AugmentSettings()
    loss: LossSettings = LossSettings()
    batch: int = Field(default=16, gt=0, description="pictures a step; each makes 4 turns x 2 views")
    epochs: int = Field(default=30, ge=0, description="0 saves the untrained encoder")
    learning_rate: float = Field(default=0.1, gt=0, description="peak rate for 256 turned pictures, that is batch 64")
    momentum: float = Field(default=0.9, gt=0, lt=1)
    weight_decay: float = Field(default=1e-6, ge=0)
    warmup: Share = Field(default=0.05, description="share of the steps in which the rate rises")
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = Field(default=0, ge=0)
    out: Path = Field(default=Path("model"), description="the model folder; checkpoints lie beside it")
    tensorboard: Path | None = None
    checkpoint_every: int = Field(default=5, gt=0, description="epochs")
    resume: bool = False

    @property
    def checkpoint(self) -> Path:
        """The file from which an interrupted run goes on, beside the model folder."""
        return self.out.with_name(f"{self.out.name}.checkpoint")

    def recipe(self) -> dict[str, Any]:
        """The settings that decide the weights, flat: `{"loss.tau": 0.2, ...}`."""
        flat = _flatten(self.model_dump(mode="json"))
        return {key: value for key, value in flat.items() if key not in _WITHOUT_EFFECT}


def _flatten(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
