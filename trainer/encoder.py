"""The encoder: a ResNet and a projection head, from normalised pictures to the embeddings' raw directions.

He, Zhang, Ren, Sun, arXiv 1512.03385, with the CIFAR stem of its section 4.2 as an option. Parameters carry
torchvision's names, so its published weights load.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from worker.contract.errors import DataError, MismatchError
from worker.contract.settings import Settings

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's RGB channels, in units of 255: what published weights expect."""

_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}


class Architecture(Settings):
    """The encoder's shape; `width` is the number of channels of the first stage, `dimensions` is D."""

    network: Literal["resnet18", "resnet34"] = "resnet18"
    stem: Literal["cifar", "imagenet"] = "imagenet"
    width: int = Field(default=64, gt=0)
    hidden: int = Field(default=2048, gt=0)
    dimensions: int = Field(default=128, gt=0)


class Encoder(nn.Module):
    """(N, 3, S, S) float, normalised -> (N, D) projections, not yet of unit length."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        width = architecture.width
        if architecture.stem == "imagenet":
            self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
            self.pool: nn.Module = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
            self.pool = nn.Identity()
        self.bn1 = nn.BatchNorm2d(width)
        one, two, three, four = _BLOCKS[architecture.network]
        self.layer1 = _stage(width, width, one, stride=1)
        self.layer2 = _stage(width, 2 * width, two, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, three, stride=2)
        self.layer4 = _stage(4 * width, 8 * width, four, stride=2)
        self.projection = nn.Sequential(
            nn.Linear(8 * width, architecture.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(architecture.hidden, architecture.dimensions),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, D)."""
        x = self.pool(F.relu(self.bn1(self.conv1(pictures)), inplace=True))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        projections: Tensor = self.projection(x.mean(dim=(2, 3)))
        return projections


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
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
    """(N, 3, S, S) RGB pixels from 0 to 255, of any dtype -> what the encoder takes, float32 or wider."""
    pixels = pixels if pixels.is_floating_point() else pixels.float()
    mean = 255 * torch.tensor(MEAN, dtype=pixels.dtype, device=pixels.device).view(3, 1, 1)
    std = 255 * torch.tensor(STD, dtype=pixels.dtype, device=pixels.device).view(3, 1, 1)
    return (pixels - mean) / std


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
    own = {name: value for name, value in encoder.state_dict().items() if not name.startswith("projection.")}
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


def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(channels_in, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))
