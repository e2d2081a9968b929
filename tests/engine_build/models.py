"""Small random models and an oracle for their embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from quarterturn.trainer.architecture import Architecture
from quarterturn.trainer.basis import fit_bases
from quarterturn.trainer.checkpoint import load_model, save_model
from quarterturn.trainer.depths import DepthSettings
from quarterturn.trainer.encoder import Encoder
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.known_pictures import KnownPictures
from quarterturn.worker.contract.views import Views

SIDE = 64

CONVOLUTIONAL = Architecture(backbone="test_efficientnet", hidden=16, frame=12, dimensions=20)
TRANSFORMER = Architecture(backbone="test_vit", hidden=16, frame=12, dimensions=20)
WHOLE = Architecture(backbone="test_resnet", hidden=16, frame=12, depths={}, head=False)


HALVED = CONVOLUTIONAL.model_copy(
    update={
        "depths": {
            "middle": DepthSettings(layers=("blocks.3",), stride=16),
            "deep": DepthSettings(layers=("blocks.4",), halved=("blocks.2", "blocks.3", "blocks.4"), stride=32),
        }
    }
)
HALVED_TRANSFORMER = TRANSFORMER.model_copy(
    update={
        "depths": {
            "middle": DepthSettings(layers=("blocks.3",), stride=16),
            "deep": DepthSettings(layers=("blocks.5",), halved=("blocks.1", "blocks.5"), stride=16),
        }
    }
)
ODD_SIDE = 96
ODDLY = DepthSettings(  # of frames of `ODD_SIDE` px: maps with 12, 6, 3 and 2 places along a side onto one with 4
    layers=("blocks.2",), halved=("blocks.1", "blocks.2", "blocks.3", "blocks.4"), stride=24
)
ODDLY_HALVED = CONVOLUTIONAL.model_copy(update={"depths": {"only": ODDLY}, "head": False})


def random_encoder(architecture: Architecture = CONVOLUTIONAL, seed: int = 0, side: int = SIDE) -> Encoder:
    """Random weights and batch statistics, bases fitted to noise; in evaluation mode."""
    torch.manual_seed(seed)
    encoder = Encoder(architecture, side)
    for norm in encoder.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight.data, norm.running_var):
                tensor.uniform_(0.5, 2)  # type: ignore[union-attr]
            for tensor in (norm.bias.data, norm.running_mean):
                tensor.normal_(0, 0.2)  # type: ignore[union-attr]
    fit_bases(encoder, [random_frames(8, seed=100, side=side)])
    return encoder


def save_random_model(
    folder: Path, views: Views = 4, seed: int = 0, architecture: Architecture = CONVOLUTIONAL
) -> Path:
    """A model folder with a random encoder for frames of `SIDE` px; returns it."""
    save_model(
        folder,
        random_encoder(architecture, seed),
        framing=Framing(side=SIDE),
        products=("ring", "nut"),
        views=views,
        holdout=0.25,
        group="folder",
        pictures={"ring": KnownPictures(learned="0" * 32)},
        rotations={},
        training={},
    )
    return folder


def random_frames(count: int, seed: int = 0, side: int = SIDE) -> npt.NDArray[np.uint8]:
    """(count, side, side, 3) uint8: coarse squares with noise, no two alike."""
    rng = np.random.default_rng(seed)
    squares = rng.integers(0, 200, (count, 8, 8, 3)).repeat(side // 8, axis=1).repeat(side // 8, axis=2)
    return (squares + rng.integers(0, 56, squares.shape)).astype(np.uint8)


def views_of(frame: npt.NDArray[np.uint8], views: int) -> list[npt.NDArray[np.uint8]]:
    """The first V of: four quarter turns counter-clockwise, then the same of the frame mirrored left to right."""
    return [np.rot90(side, turns) for side in (frame, np.fliplr(frame)) for turns in range(4)][:views]


def turned_back(places: npt.NDArray[np.floating], view: int) -> npt.NDArray[np.floating]:
    """(P, ...) of a view, row by row, as the frame lies."""
    grid = round(len(places) ** 0.5)
    upright = np.rot90(places.reshape(grid, grid, *places.shape[1:]), -(view % 4))
    return (np.fliplr(upright) if view >= 4 else upright).reshape(places.shape)


def oracle(encoder: Encoder | Path, frames: npt.NDArray[np.uint8], views: int) -> Embeddings:
    """The embeddings of frames by an encoder, or by that in a model folder: in double precision, by the definition."""
    double = (load_model(encoder)[0] if isinstance(encoder, Path) else encoder).double()
    mean, std = np.array(double.architecture.mean), np.array(double.architecture.std)
    found: dict[str, list[npt.NDArray[np.floating]]] = {}
    for frame in frames:
        for view, turned in enumerate(views_of(frame, views)):
            picture = ((turned - mean) / std).transpose(2, 0, 1)[None].copy()
            for name, values in double(torch.from_numpy(picture)).items():
                one = values.detach().numpy()[0]
                upright = one / np.sqrt(np.sum(one**2)) if name == "frame" else turned_back(one, view)
                found.setdefault(name, []).append(upright)
    return {
        name: np.asarray(each, np.float32).reshape(len(frames), views, *each[0].shape) for name, each in found.items()
    }
