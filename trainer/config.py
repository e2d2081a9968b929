"""The trainer's settings: `configs/train.yaml` as frozen models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from quarterturn.trainer.architecture import Architecture
from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.picture import Depth, Region
from quarterturn.worker.contract.settings import Settings
from quarterturn.worker.contract.splits import Group

_WITHOUT_EFFECT = ("out", "resume", "tensorboard", "checkpoint_every", "device", "data.path", "data.cache_gib")

Share = Annotated[float, Field(ge=0, le=1)]


class DataSettings(Settings):
    """Which pictures to learn from, and how they become frames of `side` x `side` pixels."""

    path: Path = Field(description="good pictures, one folder for each product; docs/data.md has the layouts")
    side: int = Field(default=256, ge=32, multiple_of=16, description="of a frame, in pixels")
    fit: Literal["stretch", "letterbox", "tiles"] = Field(
        default="stretch", description="the whole picture squashed, or with margins; or in overlapping squares"
    )
    tiles: int = Field(default=1, ge=1, le=8, description="that span a picture's shorter side, with fit 'tiles'")
    region: Region | None = None
    bit_depth: Depth = None
    holdout: float = Field(default=0.35, gt=0, lt=1, description="share that training never sees; the bank needs it")
    group: Group | None = Field(
        default=None,
        description="pictures of one part are held out together: 'folder', or a pattern whose (group) names the part",
    )
    cache_gib: float = Field(default=2.0, ge=0, description="memory for decoded frames, or for features of them")

    @model_validator(mode="after")
    def _makes_a_framing(self) -> DataSettings:
        _ = self.framing  # refuses what does not go together
        return self

    @property
    def framing(self) -> Framing:
        """How a picture becomes frames."""
        return Framing(side=self.side, fit=self.fit, tiles=self.tiles)

    def require_room(self, size: int, features: str, remedy: str) -> None:
        """Refuse to keep `features` of `size` bytes in memory, where that is more than allowed.

        Raises:
            ConfigError: says what to lower instead, `remedy`.
        """
        if size > self.cache_gib * 2**30:
            raise ConfigError(
                f"data.cache_gib: features of {features} take {size / 2**30:.2g} GiB, more than {self.cache_gib:g}; "
                f"raise it, or lower {remedy}"
            )


class AugmentSettings(Settings):
    """How the views of a picture are made different, for masked contrastive learning."""

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


class PasteSettings(Settings):
    """Anomalies pasted into frames of good parts, for the head to find."""

    rounds: int = Field(default=12, gt=0, description="pastes in a frame that gets any")
    size: tuple[float, float] = Field(default=(3.0, 32.0), description="smallest and largest, in pixels of the frame")

    @model_validator(mode="after")
    def _size_is_a_range(self) -> PasteSettings:
        smallest, largest = self.size
        if not 1 <= smallest <= largest:
            raise ValueError("size must be [smallest, largest] with 1 <= smallest <= largest")
        return self


class ProjectionSettings(Settings):
    """Masked contrastive learning of the frame's embedding; its multipliers are named as in arXiv 2105.08793."""

    steps: int = Field(default=400, ge=0, description="0 leaves the projection as it was drawn")
    batch: int = Field(default=64, gt=0, description="pictures a step, each in four turns and two views")
    learning_rate: float = Field(default=0.003, gt=0, description="peak")
    pictures: int = Field(default=300, gt=1, description="that features are kept of, with a frozen backbone")
    variants: int = Field(default=2, ge=2, description="augmented copies of each in each turn, with a frozen backbone")
    alpha: float = Field(default=0.05, ge=0, description="how hard a pair is pushed apart: same product, same turn")
    beta: float = Field(default=2.0, ge=0, description="same product, other turn")
    tau: float = Field(default=0.2, gt=0, description="1/tau: other products, and the pull on two views of one picture")
    spa: float = Field(default=1.0, ge=0, description="weight of the pull towards others of the same product and turn")


class HeadSettings(Settings):
    """How the head learns to tell pasted places from others, on the features of a frozen backbone."""

    steps: int = Field(default=1000, ge=0, description="0 leaves the head out of the model")
    batch: int = Field(default=16, gt=0, description="frames a step")
    learning_rate: float = Field(default=0.01, gt=0, description="peak")
    frames: int = Field(default=600, gt=0, description="frames with pasted anomalies, of which features are kept")
    positive: float = Field(default=3.0, gt=0, description="weight of a pasted place against one that is not")


class TrainSettings(Settings):
    """`configs/train.yaml`."""

    data: DataSettings
    architecture: Architecture = Architecture()
    weights: str = Field(default="package", description="of the backbone: package, timm, none, or a file")
    augment: AugmentSettings = AugmentSettings()
    projection: ProjectionSettings = ProjectionSettings()
    paste: PasteSettings = PasteSettings()
    head: HeadSettings = HeadSettings()
    optimiser: Literal["adamw", "sgd"] = Field(default="adamw", description="sgd: with momentum")
    momentum: float = Field(default=0.9, gt=0, lt=1, description="of sgd")
    weight_decay: float = Field(default=0.001, ge=0, description="how hard weights are pulled towards 0")
    warmup: Share = Field(default=0.05, description="share of the steps in which the rate rises")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="of a backbone that is trained; auto: bfloat16 where the device computes in it"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: an NVIDIA GPU if there is one")
    seed: int = Field(default=0, ge=0, description="the same seed, pictures and machine give the same weights")
    out: Path = Field(default=Path("model"), description="the model folder; checkpoints lie beside it")
    tensorboard: Path | None = Field(default=None, description="folder for curves; None: no curves")
    checkpoint_every: int = Field(default=200, gt=0, description="steps")
    resume: bool = Field(default=False, description="whether to go on from the checkpoint of an interrupted run")

    @property
    def completed(self) -> Architecture:
        """The architecture, without a head that would not be trained."""
        return self.architecture if self.head.steps else self.architecture.model_copy(update={"head": False})

    @property
    def checkpoint(self) -> Path:
        """The file from which an interrupted run goes on, beside the model folder."""
        return self.out.with_name(f"{self.out.name}.checkpoint")

    def recipe(self) -> dict[str, Any]:
        """The settings that decide the weights, flat: `{"projection.tau": 0.2, ...}`."""
        flat = _flatten(self.model_dump(mode="json"))
        return {key: value for key, value in flat.items() if key not in _WITHOUT_EFFECT}


def _flatten(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat
