"""Small random models and an oracle for their embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from trainer.checkpoint import load_model, save_model
from trainer.encoder import Architecture, Encoder
from worker.contract.framing import Framing

SIDE = 32
LOCAL_SIDE = 64
GRID = 8  # positions along a side of a frame of LOCAL_SIDE pixels

WHOLE = Architecture(stem="cifar", width=4, hidden=16, dimensions=12)
LOCAL = Architecture(network="resnet10", width=8, hidden=16, dimensions=12, local=True, padding="reflect")


def random_encoder(architecture: Architecture, seed: int = 0) -> Encoder:
    """Random weights and batch statistics; in evaluation mode."""
    torch.manual_seed(seed)
    encoder = Encoder(architecture)
    for name, tensor in encoder.state_dict().items():
        if name.endswith(("bn1.weight", "bn2.weight", "norm.weight", "running_var")):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("bn1.bias", "bn2.bias", "norm.bias", "running_mean")):
            tensor.normal_(0, 0.2)
    return encoder.eval()


def save_random_model(
    folder: Path, views: Literal[1, 2, 4, 8] = 4, seed: int = 0, architecture: Architecture = WHOLE
) -> Path:
    """A model folder with random weights and batch statistics; returns it."""
    save_model(
        folder,
        random_encoder(architecture, seed),
        framing=Framing(side=LOCAL_SIDE if architecture.local else SIDE),
        products=("ring", "nut"),
        views=views,
        holdout=0.25,
        rotations={},
        training={},
    )
    return folder


def random_frames(count: int, seed: int = 0, side: int = SIDE) -> npt.NDArray[np.uint8]:
    """(count, side, side, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def views_of(frame: npt.NDArray[np.uint8], views: int) -> list[npt.NDArray[np.uint8]]:
    """The first V of: four quarter turns counter-clockwise, then the same of the frame mirrored left to right."""
    return [np.rot90(side, turns) for side in (frame, np.fliplr(frame)) for turns in range(4)][:views]


def turned_back(grid: npt.NDArray[np.floating], view: int) -> npt.NDArray[np.floating]:
    """(G, G, ...) of a view, as the frame lies."""
    upright = np.rot90(grid, -(view % 4))
    return np.fliplr(upright) if view >= 4 else upright


def standardised(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.floating]:
    """Mean 0 and deviation 1, but for a picture that varies by less than 8 grey levels."""
    return (picture - picture.mean()) / max(picture.std(), 8.0)


def local_oracle(model: Path, frames: npt.NDArray[np.uint8], views: int) -> npt.NDArray[np.float32]:
    """(B, V, 64, D): each view of each frame alone, in double precision, its grid turned back."""
    encoder = load_model(model)[0].double()
    found = []
    for frame in frames:
        for view, turned in enumerate(views_of(frame, views)):
            picture = standardised(turned).transpose(2, 0, 1)[None].copy()
            vectors = encoder(torch.from_numpy(picture)).detach().numpy()[0]
            unit = vectors / np.sqrt(np.sum(vectors**2, axis=1, keepdims=True))
            found.append(turned_back(unit.reshape(GRID, GRID, -1), view).reshape(GRID**2, -1))
    return np.asarray(found, np.float32).reshape(len(frames), views, GRID**2, -1)


def oracle(model: Path, frames: npt.NDArray[np.uint8], views: int) -> npt.NDArray[np.float32]:
    """(B, V, 1, D): all views through the encoder in double precision, written out from the definition."""
    encoder = load_model(model)[0].double()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    turned = np.concatenate([views_of(frame, views) for frame in frames])
    pictures = ((turned / 255 - mean) / std).transpose(0, 3, 1, 2)
    projections = encoder(torch.from_numpy(pictures)).detach().numpy()[:, 0]
    embeddings = projections / np.sqrt(np.sum(projections**2, axis=1, keepdims=True))
    return np.asarray(embeddings, np.float32).reshape(len(frames), views, 1, -1)
