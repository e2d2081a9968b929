"""The engine builder's settings: `configs/build.yaml` as frozen models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from quarterturn.worker.contract.manifest import TargetName
from quarterturn.worker.contract.settings import Settings
from quarterturn.worker.contract.views import Views


def _distinct(targets: tuple[TargetName, ...]) -> tuple[TargetName, ...]:
    if not targets or len(set(targets)) < len(targets):
        raise ValueError("name at least one target, and each once")
    return targets


class Precisions(Settings):
    """In which type each target computes; `auto` is its fastest here that is as exact as float32 must be."""

    openvino: Literal["auto", "float32", "float16", "bfloat16"] = Field(default="auto", description="on a CPU")
    onnxruntime: Literal["auto", "float32", "float16"] = Field(
        default="auto", description="on a CPU, where auto is float32"
    )
    tensorrt: Literal["float32", "float16"] = Field(default="float16", description="on an NVIDIA GPU")


class TensorRtSettings(Settings):
    """How TensorRT builds: a plan serves 1 to `max_frames` frames at once, and is the fastest at `opt_frames`."""

    opt_frames: int = Field(default=8, gt=0, description="the batch that the plan is the fastest at")
    max_frames: int = Field(default=16, gt=0, le=1024, description="the largest batch; larger ones are split")
    workspace_mb: int = Field(default=1024, gt=0, description="GPU memory that a layer may use for its own work")
    optimisation_level: int = Field(default=3, ge=0, le=5, description="a higher level builds longer")

    @model_validator(mode="after")
    def _opt_within_max(self) -> TensorRtSettings:
        if self.opt_frames > self.max_frames:
            raise ValueError(f"opt_frames = {self.opt_frames} is more than max_frames = {self.max_frames}")
        return self


class BuildSettings(Settings):
    """`configs/build.yaml`."""

    model: Path = Field(
        default=Path("model"), description="the folder that `quarterturn train` wrote; or an engine's, to build it anew"
    )
    out: Path = Field(default=Path("engine"), description="the engine folder, replaced once the new one is proven")
    targets: Annotated[tuple[TargetName, ...], AfterValidator(_distinct)] = Field(
        default=("openvino",), description="the runtimes to build for"
    )
    precision: Precisions = Precisions()
    tensorrt: TensorRtSettings = TensorRtSettings()
    views: Views | None = Field(default=None, description="None: four, or as many as an engine folder has")
    golden_frames: int = Field(default=8, gt=0, le=64, description="rendered frames that every target is checked with")
    pictures: Path | None = Field(default=None, description="folder of pictures to check with, besides the rendered")
