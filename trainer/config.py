"""The trainer's settings: `configs/train.yaml` as frozen models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from trainer.encoder import CELL, Architecture
from worker.contract.framing import Framing
from worker.contract.preprocess import Region
from worker.contract.settings import Settings
from worker.contract.views import ROTATIONS

VIEWS = 2  # of each turned picture: the pair that the contrastive loss attracts

_WITHOUT_EFFECT = ("out", "resume", "tensorboard", "checkpoint_every", "device", "data.path", "data.cache_gib")

Share = Annotated[float, Field(ge=0, le=1)]


class DataSettings(Settings):
    """Which pictures to learn from, and how they become frames of `side` x `side` pixels."""

    path: Path
    side: int = Field(default=128, ge=32, multiple_of=16, description="of a frame, in pixels")
    fit: Literal["stretch", "letterbox", "tiles"] = "stretch"
    tiles: int = Field(default=1, ge=1, le=8, description="that span a picture's shorter side, with fit 'tiles'")
    region: Region | None = None
    holdout: float = Field(default=0.3, gt=0, lt=1, description="share that training never sees; the bank needs it")
    cache_gib: float = Field(default=2.0, ge=0, description="memory for decoded frames; the rest is decoded anew")

    @model_validator(mode="after")
    def _makes_a_framing(self) -> DataSettings:
        if self.framing.side != self.side:  # the framing itself refuses what does not go together
            raise AssertionError
        return self

    @property
    def framing(self) -> Framing:
        """How a picture becomes frames."""
        return Framing(side=self.side, fit=self.fit, tiles=self.tiles)


class AugmentSettings(Settings):
    """How the two views of a picture are made different, for an encoder of whole frames."""

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


class CropSettings(Settings):
    """What an encoder with local embeddings learns from: crops at the scale of defects."""

    side: int = Field(default=128, ge=64, multiple_of=CELL, description="pixels of the frame")
    focus: Share = Field(default=0.95, description="how often a crop is placed by what is to be seen there, not evenly")
    flip: Share = Field(default=0.5, description="how often a crop is mirrored, before it is turned")
    light: float = Field(default=1.0, ge=0, description="strength of changes of gain, offset, tilt and sensor noise")


class PasteSettings(Settings):
    """Defects pasted into crops of good parts, for an encoder with local embeddings to find."""

    share: Share = Field(default=0.9, description="of the crops that get any")
    rounds: int = Field(default=3, gt=0, description="pastes in each of them")
    size: tuple[float, float] = Field(default=(3.0, 32.0), description="smallest and largest, in pixels of the frame")
    focus: Share = Field(default=0.95, description="how often a place is drawn by what is to be seen there, not evenly")
    copies: bool = Field(default=True, description="also patches of other crops, and what is there displaced")
    softness: float = Field(
        default=0.0, ge=0, le=4, description="blur of a paste, by that of the picture's own sharpest edges; 0: sharp"
    )

    @model_validator(mode="after")
    def _size_is_a_range(self) -> PasteSettings:
        smallest, largest = self.size
        if not 1 <= smallest <= largest:
            raise ValueError("size must be [smallest, largest] with 1 <= smallest <= largest")
        return self


class LossSettings(Settings):
    """The masked contrastive loss, its multipliers named as in arXiv 2105.08793, and the term beside it.

    `spa` is the weight of its SPA. The pasted-or-not term exists with local embeddings only.

    The published β is 2. At that, the turns of a product stay on one point for many hundred steps: the pull on the
    views of a picture is far stronger than the push between its turns. At 1/τ they part within a hundred.
    """

    alpha: float = Field(default=0.05, ge=0)
    beta: float = Field(default=5.0, ge=0)
    tau: float = Field(default=0.2, gt=0)
    spa: float = Field(default=1.0, ge=0)
    contrast: float = Field(default=1.0, ge=0, description="weight of the masked contrastive loss, CCM and SPA")
    dense: float = Field(default=1.0, ge=0, description="weight of the pasted-or-not term of local embeddings")
    positive: float = Field(default=3.0, gt=0, description="weight of a pasted position against one that is not")


class TrainSettings(Settings):
    """`configs/train.yaml`."""

    data: DataSettings
    architecture: Architecture = Architecture()
    init: Path | None = Field(default=None, description="weights of a torchvision ResNet to start from")
    augment: AugmentSettings = AugmentSettings()
    crops: CropSettings = CropSettings()
    paste: PasteSettings = PasteSettings()
    loss: LossSettings = LossSettings()
    batch: int = Field(default=16, gt=0, description="pictures a step")
    epochs: int = Field(default=30, ge=0, description="0 saves the untrained encoder")
    optimiser: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(
        default=0.1, gt=0, description="peak; of sgd for 256 turned pictures, that is batch 64, of adamw as it is"
    )
    momentum: float = Field(default=0.9, gt=0, lt=1, description="of sgd")
    weight_decay: float = Field(default=1e-6, ge=0)
    warmup: Share = Field(default=0.05, description="share of the steps in which the rate rises")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: bfloat16 where the device computes in it, else float32"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = Field(default=0, ge=0)
    out: Path = Field(default=Path("model"), description="the model folder; checkpoints lie beside it")
    tensorboard: Path | None = None
    checkpoint_every: int = Field(default=5, gt=0, description="epochs")
    resume: bool = False

    @model_validator(mode="after")
    def _local_fits(self) -> TrainSettings:
        side = self.data.side
        if self.architecture.local and side != 64 and side % 128:
            raise ValueError(f"data.side = {side}: local embeddings need 64 or a multiple of 128")
        if self.architecture.local and self.crops.side > side:
            raise ValueError(f"crops.side = {self.crops.side} is larger than data.side = {side}; lower it")
        return self

    @property
    def views_of_each(self) -> int:
        """How many views or crops a picture gives in a step: two of each turn for the contrastive loss, else one."""
        return VIEWS * ROTATIONS if self.loss.contrast > 0 or not self.architecture.local else 1

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
