"""Models and training checkpoints on disk: safetensors and JSON, written whole or not at all, never pickle."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.encoder import Architecture, Encoder
from worker.contract.errors import ConfigError, DataError, MismatchError
from worker.contract.manifest import (
    MANIFEST,
    ModelManifest,
    RotationReport,
    hash_files,
    read_manifest,
    verify_files,
    write_manifest,
)
from worker.contract.settings import parse_settings

WEIGHTS = "model.safetensors"


def save_model(
    folder: Path,
    encoder: Encoder,
    *,
    side: int,
    products: tuple[str, ...],
    views: Literal[1, 2, 4, 8],
    holdout: float,
    rotations: Mapping[str, RotationReport],
    training: Mapping[str, Any],
) -> ModelManifest:
    """Write `encoder` as the model folder `folder`; the other arguments are the manifest's fields.

    The folder is made aside and renamed, so a reader finds the old model, the new one, or none.

    Raises:
        DataError: `folder` holds something that is no model.
    """
    require_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        new, old = Path(scratch, "new"), Path(scratch, "old")
        new.mkdir()
        save_file({name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}, new / WEIGHTS)
        manifest = ModelManifest(
            side=side,
            products=products,
            views=views,
            architecture=encoder.architecture.model_dump(),
            holdout=holdout,
            rotations=dict(rotations),
            training=dict(training),
            files=hash_files(new, [WEIGHTS]),
            created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        write_manifest(new, manifest)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    return manifest


def load_model(folder: Path) -> tuple[Encoder, ModelManifest]:
    """The encoder in the model folder `folder`, on the CPU in evaluation mode, and its manifest.

    Raises:
        DataError: the folder, its manifest or its weights are missing or damaged.
        MismatchError: the weights are not those that the manifest lists.
    """
    manifest = read_manifest(folder, ModelManifest, "quarterturn train")
    verify_files(folder, manifest.files, [WEIGHTS])
    try:
        architecture = parse_settings(manifest.architecture, Architecture, f"{folder / MANIFEST}: architecture")
    except ConfigError as error:
        raise DataError(f"{error}; the model is from another version, train it again") from error
    encoder = Encoder(architecture)
    _fill(encoder, load_file(folder / WEIGHTS), folder / WEIGHTS)
    return encoder.eval(), manifest


def require_replaceable(folder: Path) -> None:
    """Refuse to replace what is not a model.

    Raises:
        DataError: `folder` is a file, or a folder that holds something but no manifest.
    """
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: exists and is no model, so it will not be replaced; set 'out' to another folder")


def _fill(encoder: Encoder, weights: dict[str, Tensor], path: Path) -> None:
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise MismatchError(
            f"{path}: the weights do not fit {encoder.architecture!r}; train the model again"
        ) from error
