"""Small random models and an oracle for their embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from trainer.checkpoint import load_model, save_model
from trainer.encoder import Architecture, Encoder

SIDE = 32


def save_random_model(folder: Path, views: Literal[1, 2, 4, 8] = 4, seed: int = 0) -> Path:
    """A model folder with random weights and batch statistics; returns it."""
    torch.manual_seed(seed)
    encoder = Encoder(Architecture(stem="cifar", width=4, hidden=16, dimensions=12))
    for name, tensor in encoder.state_dict().items():
        if name.endswith(("bn1.weight", "bn2.weight", "running_var")):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("bn1.bias", "bn2.bias", "running_mean")):
            tensor.normal_(0, 0.2)
    save_model(
        folder, encoder, side=SIDE, products=("ring", "nut"), views=views, holdout=0.25, rotations={}, training={}
    )
    return folder


def random_frames(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """(count, SIDE, SIDE, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def views_of(frame: npt.NDArray[np.uint8], views: int) -> list[npt.NDArray[np.uint8]]:
    """The first V of: four quarter turns counter-clockwise, then the same of the frame mirrored left to right."""
    return [np.rot90(side, turns) for side in (frame, np.fliplr(frame)) for turns in range(4)][:views]


def oracle(model: Path, frames: npt.NDArray[np.uint8], views: int) -> npt.NDArray[np.float32]:
    """(B, V, 1, D): all views through the encoder in double precision, written out from the definition."""
    encoder = load_model(model)[0].double()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    turned = np.concatenate([views_of(frame, views) for frame in frames])
    pictures = ((turned / 255 - mean) / std).transpose(0, 3, 1, 2)
    projections = encoder(torch.from_numpy(pictures)).detach().numpy()
    embeddings = projections / np.sqrt(np.sum(projections**2, axis=1, keepdims=True))
    return np.asarray(embeddings, np.float32).reshape(len(frames), views, 1, -1)
