"""The encoder: a ResNet and a projection head, from normalised pictures to the embeddings' raw directions.

He, Zhang, Ren, Sun, arXiv 1512.03385, with the CIFAR stem of its section 4.2 as an option. Parameters carry
torchvision's names, so its published weights load.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from worker.contract.errors import DataError, MismatchError
from worker.contract.settings import Settings
from worker.contract.views import place_order, turn

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's RGB channels, in units of 255: what published weights expect."""

Padding = Literal["zeros", "reflect"]

CELL = 8
"""Pixels of the frame along a side of one position of a local embedding."""

_BLOCKS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
_SMALLEST_SPREAD = 8.0  # grey levels: what is darker or flatter than that stays so
_LOGIT_SCALE = 4.0  # see worker.contract.detectors.learned_logits
_SQUEEZED = 64  # channels between the stages' features and the logit


class Architecture(Settings):
    """The encoder's shape; `width` is the number of channels of the first stage, `dimensions` is D.

    With `local`, there is an embedding for every 8 x 8 pixels instead of one for the frame, and no fourth stage.
    """

    network: Literal["resnet10", "resnet18", "resnet34"] = "resnet18"
    stem: Literal["cifar", "imagenet"] = "imagenet"
    width: int = Field(default=64, gt=0)
    hidden: int = Field(default=2048, gt=0)
    dimensions: int = Field(default=128, gt=1)
    local: bool = False
    padding: Padding = "zeros"

    @model_validator(mode="after")
    def _fits_local(self) -> Architecture:
        if self.local and self.stem != "imagenet":
            raise ValueError("local embeddings need stem 'imagenet'")
        largest = 2 + 7 * self.width
        if self.local and not 2 < self.dimensions <= largest:
            raise ValueError(f"local embeddings of width {self.width} have 3 to {largest} dimensions")
        return self

    def positions(self, side: int) -> int:
        """P for frames of `side` x `side` pixels."""
        return (side // CELL) ** 2 if self.local else 1


class Encoder(nn.Module):
    """(N, 3, S, S) float, normalised -> (N, P, D) embeddings, not yet of unit length.

    With `local`, an embedding is (ℓ/4, 1, f) brought to unit length: ℓ the logit that something was pasted there, f the
    features of all three stages along their principal axes (`local.basis`). The 1 keeps f's length.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        width, padding = architecture.width, architecture.padding
        if architecture.stem == "imagenet":
            self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False, padding_mode=padding)
            self.pool: nn.Module = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False, padding_mode=padding)
            self.pool = nn.Identity()
        self.bn1 = nn.BatchNorm2d(width)
        one, two, three, four = _BLOCKS[architecture.network]
        self.layer1 = _stage(width, width, one, 1, padding)
        self.layer2 = _stage(width, 2 * width, two, 2, padding)
        self.layer3 = _stage(2 * width, 4 * width, three, 2, padding)
        if architecture.local:
            self.local = Local(width, architecture.dimensions)
        else:
            self.layer4 = _stage(4 * width, 8 * width, four, 2, padding)
        self.projection = nn.Sequential(
            nn.Linear((4 if architecture.local else 8) * width, architecture.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(architecture.hidden, architecture.dimensions),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, P, D)."""
        stages = self.stages(pictures)
        if self.architecture.local:
            embeddings: Tensor = self.local(stages)
            return embeddings
        return self.project(stages)[:, None]

    def stages(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, S, S) -> the features of each stage, (N, C, H, W)."""
        first = self.layer1(self.pool(F.relu(self.bn1(self.conv1(pictures)), inplace=True)))
        second = self.layer2(first)
        third = self.layer3(second)
        return (first, second, third) if self.architecture.local else (first, second, third, self.layer4(third))

    def project(self, stages: tuple[Tensor, ...]) -> Tensor:
        """The features of each stage -> (N, D) projections of the whole frame, for the contrastive loss."""
        projections: Tensor = self.projection(stages[-1].mean(dim=(2, 3)))
        return projections


class Local(nn.Module):
    """From the features of three stages to an embedding for every 8 x 8 pixels of the frame.

    Only the logit is learned. The features beside it go through a fixed change of basis, see `trainer.basis`.
    """

    def __init__(self, width: int, dimensions: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(7 * width, _SQUEEZED, 1, bias=False)
        self.norm = nn.BatchNorm2d(_SQUEEZED)
        self.logit = nn.Conv2d(_SQUEEZED, 1, 1)
        self.basis = nn.Conv2d(7 * width, dimensions - 2, 1)
        self.basis.requires_grad_(False)

    def forward(self, stages: tuple[Tensor, ...]) -> Tensor:
        """The features of each stage -> (N, G · G, D) float32, row by row; not of unit length."""
        features = self.features(stages)
        logits = self._logits(features).float() / _LOGIT_SCALE
        along_axes = self.basis(features).float()
        ones = 0 * logits + 1  # ones_like would make the exported graph ask for the shape of its uint8 frames
        return torch.cat([logits, ones, along_axes], dim=1).flatten(2).transpose(1, 2)

    def logits(self, stages: tuple[Tensor, ...]) -> Tensor:
        """The features of each stage -> (N, 1, G, G): how much each position looks pasted."""
        return self._logits(self.features(stages))

    def features(self, stages: tuple[Tensor, ...]) -> Tensor:
        """The features of each stage -> (N, 7 · width, G, G): all on the grid of the second."""
        first, second, third = stages
        smaller = F.avg_pool2d(first, 2)
        larger = F.interpolate(third, scale_factor=2, mode="bilinear", align_corners=False)
        return torch.cat([smaller, second, larger], dim=1)

    def _logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.logit(F.relu(self.norm(self.squeeze(features)), inplace=True))
        return logits


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int, padding: Padding) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False, padding_mode=padding)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False, padding_mode=padding)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                Shortcut(channels_in, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.downsample(x), inplace=True)


class Shortcut(nn.Conv2d):
    """A strided 1×1 convolution, in training computed as a plain one of every `stride`-th pixel: the same sums.

    The gradient of a strided one writes beyond its memory in oneDNN (torch 2.13) on CPUs with AVX2 but not AVX-512.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C, ⌈H / stride⌉, ⌈W / stride⌉)."""
        if not self.training:
            return super().forward(x)
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight)


def normalise(pixels: Tensor) -> Tensor:
    """(N, 3, S, S) RGB pixels from 0 to 255, of any dtype -> what an encoder of whole frames takes."""
    pixels = pixels if pixels.is_floating_point() else pixels.float()
    mean = 255 * torch.tensor(MEAN, dtype=pixels.dtype, device=pixels.device).view(3, 1, 1)
    std = 255 * torch.tensor(STD, dtype=pixels.dtype, device=pixels.device).view(3, 1, 1)
    return (pixels - mean) / std


def normalise_each(pixels: Tensor) -> Tensor:
    """(N, 3, S, S) or (N, S, S, 3) RGB pixels from 0 to 255 -> what a local encoder takes: float32 or wider.

    Each frame gets mean 0 and standard deviation 1 over all its pixels and channels, so that brightness and gain do
    not matter; one that varies by less than 8 grey levels is not blown up.
    """
    pixels = pixels if pixels.is_floating_point() else pixels.float()
    centred = pixels - pixels.mean(dim=(1, 2, 3), keepdim=True)
    spread = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return centred / spread.clamp_min(_SMALLEST_SPREAD)


@torch.no_grad()
def embed_views(encoder: Encoder, frames: npt.NDArray[np.uint8], views: int) -> npt.NDArray[np.float32]:
    """(B, S, S, 3) uint8 -> (B, V, P, D) float32 of unit length, each view's grid turned back: what engines reproduce.

    Made view by view from the definition, and with nothing of the engines' graph. Leaves `encoder` in evaluation mode.
    """
    encoder.eval()
    device = next(encoder.parameters()).device
    prepare = normalise_each if encoder.architecture.local else normalise
    order, embeddings = place_order(views, encoder.architecture.positions(frames.shape[1])), []
    for view in range(views):
        turned = np.stack([turn(frame, view) for frame in frames])
        pictures = torch.from_numpy(turned).to(device).permute(0, 3, 1, 2)
        vectors = encoder(prepare(pictures).contiguous(memory_format=torch.channels_last))
        embeddings.append(F.normalize(vectors, dim=-1).cpu().numpy()[:, order[view]])
    return np.stack(embeddings, axis=1)


def load_backbone(encoder: Encoder, path: Path) -> None:
    """Load torchvision's published ResNet weights into `encoder`; their classifier is left out, the projection stays.

    Raises:
        DataError: the file cannot be read or holds no weights.
        MismatchError: the weights are of another network, stem or width.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check 'init'") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise DataError(f"{path}: holds no plain tensors; set 'init' to a state dict saved with torch.save") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise DataError(f"{path}: holds no state dict; set 'init' to a file of named tensors, as torchvision publishes")
    found = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    own = {
        name: value for name, value in encoder.state_dict().items() if not name.startswith(("projection.", "local."))
    }
    if encoder.architecture.local:
        found = {name: value for name, value in found.items() if not name.startswith("layer4.")}
    for name, value in own.items():
        shape = tuple(found[name].shape) if name in found else None
        if shape != tuple(value.shape) and not name.endswith("num_batches_tracked"):
            raise MismatchError(
                f"{path}: {name} has shape {shape}, but the encoder's has {tuple(value.shape)}; "
                "set 'architecture' to the network, stem and width of these weights"
            )
    unknown = sorted(found.keys() - own.keys())
    if unknown:
        raise MismatchError(
            f"{path}: holds {unknown[0]}, which {encoder.architecture.network} does not have; "
            "set 'architecture.network' to the network of these weights"
        )
    encoder.load_state_dict(found, strict=False)


def _stage(channels_in: int, channels: int, blocks: int, stride: int, padding: Padding) -> nn.Sequential:
    first = BasicBlock(channels_in, channels, stride, padding)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1, padding) for _ in range(blocks - 1)))
