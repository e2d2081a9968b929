"""Models and training checkpoints on disk: safetensors and JSON, written whole or not at all, never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from quarterturn.trainer.architecture import Architecture
from quarterturn.trainer.backbone import without_counters
from quarterturn.trainer.encoder import Encoder
from quarterturn.worker.contract.errors import ConfigError, DataError, MismatchError
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.known_pictures import KnownPictures
from quarterturn.worker.contract.manifest import (
    MANIFEST,
    ModelManifest,
    RotationReport,
    hash_files,
    read_manifest,
    verify_files,
    write_manifest,
)
from quarterturn.worker.contract.settings import parse_settings
from quarterturn.worker.contract.swap import replacing, writing
from quarterturn.worker.contract.times import now
from quarterturn.worker.contract.views import Views

WEIGHTS = "model.safetensors"

_CHECKPOINT = "quarterturn-checkpoint"


def save_model(
    folder: Path,
    encoder: Encoder,
    *,
    framing: Framing,
    products: tuple[str, ...],
    views: Views,
    holdout: float,
    group: str | None,
    pictures: Mapping[str, KnownPictures],
    rotations: Mapping[str, RotationReport],
    training: Mapping[str, Any],
) -> ModelManifest:
    """Write `encoder` as the model folder `folder`; the other arguments are the manifest's fields.

    The folder is made aside and renamed, so a reader finds the old model, the new one, or none.

    Raises:
        DataError: `folder` holds something that is no model.
    """
    with replacing(folder, "a model") as new:
        save_file(_contents(encoder), new / WEIGHTS)
        manifest = ModelManifest(
            framing=framing,
            products=products,
            views=views,
            architecture=encoder.architecture.model_dump(mode="json"),
            holdout=holdout,
            group=group,
            pictures=dict(pictures),
            rotations=dict(rotations),
            training=dict(training),
            files=hash_files(new, [WEIGHTS]),
            created_at=now(),
        )
        write_manifest(new, manifest)
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
        encoder = Encoder(architecture, manifest.framing.side)
    except ConfigError as error:
        raise DataError(f"{error}; the model is from another version, train it again") from error
    _fill(encoder, load_file(folder / WEIGHTS), folder / WEIGHTS)
    return encoder.eval(), manifest


@dataclass(frozen=True)
class Learner:
    """What training changes, and so what a checkpoint holds."""

    encoder: Encoder
    optimiser: Optimizer
    scaler: GradScaler


def save_checkpoint(path: Path, learner: Learner, step: int, recipe: Mapping[str, Any]) -> None:
    """Write what a run needs to go on after `step` steps as one file, replacing the last one at a stroke.

    `recipe` is everything that decides the weights. No random generator is saved: each draw depends on the seed and
    the step alone.
    """
    tensors = {f"encoder.{name}": tensor for name, tensor in _contents(learner.encoder).items()}
    for name, parameter in learner.encoder.named_parameters():
        for kind, tensor in learner.optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{kind}.{name}"] = tensor
    document = json.dumps({"step": step, "recipe": recipe, "scaler": learner.scaler.state_dict()})
    with writing(path) as aside:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, aside, {_CHECKPOINT: document})


def load_checkpoint(path: Path, learner: Learner, recipe: Mapping[str, Any]) -> int:
    """Bring `learner` to the state in `path`; returns the number of steps done.

    Raises:
        DataError: there is no such file, or it is no checkpoint.
        MismatchError: it was made with another architecture, other pictures or other settings.
    """
    try:
        with safe_open(path, framework="pt") as file:
            document = json.loads(file.metadata()[_CHECKPOINT])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no checkpoint to resume from; train with 'resume: false'") from error
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise DataError(f"{path}: is no checkpoint ({error}); delete it and train with 'resume: false'") from error
    _require_same_recipe(path, document["recipe"], recipe)
    _fill(learner.encoder, _below(tensors, "encoder."), path)
    parameters = dict(learner.encoder.named_parameters())
    for name, tensor in _below(tensors, "optimiser.").items():
        kind, _, owner = name.partition(".")
        parameter = parameters[owner]
        like = torch.empty_like(parameter) if tensor.ndim else tensor.clone()  # a step's number is a single one
        learner.optimiser.state[parameter][kind] = like.copy_(tensor)
    learner.scaler.load_state_dict(document["scaler"])
    return int(document["step"])


def _require_same_recipe(path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    different = [key for key in sorted(saved.keys() | wanted.keys()) if saved.get(key) != wanted.get(key)]
    if different:
        values = ", ".join(f"{key} {saved.get(key)} against {wanted.get(key)}" for key in different)
        raise MismatchError(
            f"{path}: was made with other settings than this run's ({values}); set them back, or train anew with "
            "'resume: false'"
        )


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _contents(encoder: Encoder) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in without_counters(encoder.state_dict()).items()}


def _fill(encoder: Encoder, weights: dict[str, Tensor], path: Path) -> None:
    own = without_counters(encoder.state_dict())
    wrong = sorted(own.keys() ^ weights.keys()) or [name for name in own if own[name].shape != weights[name].shape]
    if wrong:
        raise MismatchError(f"{path}: {wrong[0]} does not fit the model's architecture; train the model again")
    encoder.load_state_dict(weights, strict=False)
