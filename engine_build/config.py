"""The engine builder's settings: `configs/build.yaml` as frozen models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from worker.contract.settings import Settings

TargetName = Literal["openvino", "onnxruntime", "tensorrt"]


def _distinct(targets: tuple[TargetName, ...]) -> tuple[TargetName, ...]:
    if not targets or len(set(targets)) < len(targets):
        raise ValueError("name at least one target, and each once")
    return targets


class Precisions(Settings):
    """In which type each target computes; `auto` is its fastest here that passes the golden frames."""

    openvino: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    onnxruntime: Literal["auto", "float32", "float16"] = "auto"
    tensorrt: Literal["float32", "float16"] = "float16"


class TensorRtSettings(Settings):
    """How TensorRT builds: a plan serves 1 to `max_frames` frames at once, and is the fastest at `opt_frames`."""

    opt_frames: int = Field(default=8, gt=0)
    max_frames: int = Field(default=16, gt=0, le=1024)
    workspace_mb: int = Field(default=1024, gt=0, description="GPU memory that a layer may use for its own work")
    optimisation_level: int = Field(default=3, ge=0, le=5, description="a higher level builds longer")

    @model_validator(mode="after")
    def _opt_within_max(self) -> TensorRtSettings:
        if self.opt_frames > self.max_frames:
            raise ValueError(f"opt_frames = {self.opt_frames} is more than max_frames = {self.max_frames}")
        return self


class BuildSettings(Settings):
    """`configs/build.yaml`."""

    model: Path = Path("model")
    out: Path = Path("engine")
    targets: Annotated[tuple[TargetName, ...], AfterValidator(_distinct)] = ("openvino",)
    precision: Precisions = Precisions()
    tensorrt: TensorRtSettings = TensorRtSettings()
    views: Literal[1, 2, 4, 8] | None = Field(default=None, description="None: as many as the model was trained for")
    golden_frames: int = Field(default=8, gt=0, le=64, description="rendered frames that every target is checked with")
    pictures: Path | None = Field(default=None, description="folder of pictures to check with, besides the rendered")
