"""The encoder's shape: the settings of `architecture`, and what is chosen where they leave something open."""

from __future__ import annotations

from typing import Annotated, cast

import timm
from pydantic import Field, PositiveFloat, StringConstraints, field_validator
from torch import nn

from quarterturn.trainer.backbone import Stem, Trained, suggest
from quarterturn.trainer.depths import DepthSettings, default_depths, default_head_layers
from quarterturn.worker.contract.settings import Settings

DepthName = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9_]*$")]
Colour = tuple[float, float, float]


class Architecture(Settings):
    """The encoder's shape. What is None is chosen for the backbone, see `Architecture.completed`."""

    backbone: str = Field(default="tf_efficientnet_lite0", description="a network of timm's")
    stem: Stem = Field(default="own", description="cifar: 3x3 without pooling, for ResNets and frames of 32 to 64 px")
    trained: Trained = Field(default="none", description="last: what only the deepest layer used depends on")
    depths: dict[DepthName, DepthSettings] | None = Field(default=None, description="from shallow to deep")
    dimensions: int = Field(default=128, gt=0, description="most principal axes that are kept of a depth's features")
    hidden: int = Field(default=512, gt=0, description="width of the projection's hidden layer")
    frame: int = Field(default=64, gt=1, description="of a frame's embedding")
    head: bool = Field(default=True, description="whether there is a logit that a place looks pasted")
    head_layers: tuple[str, ...] | None = Field(default=None, min_length=1, description="that the head looks at")
    mean: Colour | None = Field(default=None, description="of red, green and blue from 0 to 255, as the weights expect")
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = Field(default=None, description="as `mean`")

    @field_validator("backbone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if not timm.is_model(name):
            raise ValueError(f"timm has no such network; {suggest(name, timm.list_models())}")
        return name

    @field_validator("depths")
    @classmethod
    def _can_be_named(cls, depths: dict[str, DepthSettings] | None) -> dict[str, DepthSettings] | None:
        for name in depths or ():
            if hasattr(nn.ModuleDict(), name):
                raise ValueError(f"a depth cannot be called '{name}'; call it 'shallow', 'middle' or 'deep'")
        return depths

    def completed(self, network: nn.Module) -> Architecture:
        """This with nothing left open, for the whole network `network` with the name `backbone`.

        Raises:
            ConfigError: nothing can be chosen for this network.
        """
        chosen: dict[str, object] = {}
        if self.depths is None:
            chosen["depths"] = default_depths(self.backbone, network)
        if self.head and self.head_layers is None:
            chosen["head_layers"] = default_head_layers(self.backbone, network)
        constants = cast("dict[str, Colour]", network.pretrained_cfg)  # from 0 to 1
        for name in ("mean", "std"):
            if getattr(self, name) is None:
                chosen[name] = tuple(255 * value for value in constants[name])
        return self.model_copy(update=chosen)
