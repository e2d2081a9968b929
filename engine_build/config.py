"""The engine builder's settings: `configs/build.yaml` as frozen models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from worker.contract.settings import Settings

TargetName = Literal["openvino", "onnxruntime"]


def _distinct(targets: tuple[TargetName, ...]) -> tuple[TargetName, ...]:
    if not targets or len(set(targets)) < len(targets):
        raise ValueError("name at least one target, and each once")
    return targets


class Precisions(Settings):
    """In which type each target computes; `auto` is its fastest here that passes the golden frames."""

    openvino: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    onnxruntime: Literal["auto", "float32", "float16"] = "auto"


class BuildSettings(Settings):
    """`configs/build.yaml`."""

    model: Path = Path("model")
    out: Path = Path("engine")
    targets: Annotated[tuple[TargetName, ...], AfterValidator(_distinct)] = ("openvino",)
    precision: Precisions = Precisions()
    views: Literal[1, 2, 4, 8] | None = Field(default=None, description="None: as many as the model was trained for")
    golden_frames: int = Field(default=8, gt=0, le=64, description="rendered frames that every target is checked with")
    pictures: Path | None = Field(default=None, description="folder of pictures to check with, besides the rendered")
