from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.encoder import Architecture, Encoder, Shortcut, load_backbone, normalise
from worker.contract.errors import DataError, MismatchError

SMALL = Architecture(width=8, hidden=16, dimensions=4)


def backbone(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {name: value for name, value in encoder.state_dict().items() if not name.startswith("projection.")}


def published(**changes: Any) -> dict[str, torch.Tensor]:
    """Weights as torchvision would publish them for another initialisation of a small ResNet."""
    weights = backbone(Encoder(SMALL.model_copy(update=changes)))
    return {**weights, "fc.weight": torch.ones(10, 64), "fc.bias": torch.ones(10)}


@pytest.mark.parametrize(
    ("network", "parameters", "tensors"),
    [("resnet18", 11_689_512 - 513_000, 122 - 2), ("resnet34", 21_797_672 - 513_000, 218 - 2)],
)
def test_backbone_is_torchvisions(network: Any, parameters: int, tensors: int) -> None:
    """The counts that torchvision documents for its models, less those of the classifier."""
    encoder = Encoder(Architecture(network=network))
    assert len(backbone(encoder)) == tensors
    assert sum(p.numel() for name, p in encoder.named_parameters() if not name.startswith("projection.")) == parameters
    shapes = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer1.0.bn2.running_var"] == (64,)
    assert shapes["layer2.0.downsample.0.weight"] == (128, 64, 1, 1)
    assert shapes["layer2.0.downsample.1.num_batches_tracked"] == ()
    assert shapes["layer4.1.conv2.weight"] == (512, 512, 3, 3)
    assert "layer1.0.downsample.0.weight" not in shapes


@pytest.mark.parametrize(("stem", "side"), [("cifar", 4), ("imagenet", 1)])
def test_stem_decides_the_last_grid(stem: Any, side: int) -> None:
    encoder = Encoder(SMALL.model_copy(update={"stem": stem})).eval()
    grids: list[torch.Size] = []
    encoder.layer4.register_forward_hook(lambda _module, _inputs, output: grids.append(output.shape))
    assert encoder(torch.zeros(2, 3, 32, 32)).shape == (2, 4)
    assert grids == [(2, 64, side, side)]


@pytest.mark.parametrize("channels", [4, 12])  # where oneDNN's own strided gradient destroys the heap on AVX2
def test_the_shortcut_is_a_strided_convolution_with_its_gradient(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shortcut = Shortcut(channels, 2 * channels, 1, stride=2, bias=False).double()
    pictures = torch.randn(4, channels, 7, 6, generator=generator, dtype=torch.float64)
    found = shortcut.train()(pictures)
    assert torch.equal(found, shortcut.eval()(pictures))
    gradient = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    found.backward(gradient)
    wanted = torch.einsum("nohw,nihw->oi", gradient, pictures[:, :, ::2, ::2])
    assert shortcut.weight.grad is not None
    torch.testing.assert_close(shortcut.weight.grad[:, :, 0, 0], wanted)


def test_a_block_adds_its_input() -> None:
    block = Encoder(SMALL).layer1[0].eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(1, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), x.clamp_min(0))


def test_normalise_has_imagenets_mean_and_deviation() -> None:
    pixels = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = torch.tensor([-0.485 / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(normalise(pixels).flatten(), expected)


@pytest.mark.parametrize("forget", [(), ("num_batches_tracked",)], ids=["new file", "file of before 2018"])
def test_published_weights_load(tmp_path: Path, forget: tuple[str, ...]) -> None:
    weights = {name: value for name, value in published().items() if not name.endswith(forget or "\0")}
    torch.save(weights, tmp_path / "weights.pth")
    encoder = Encoder(SMALL)
    before = encoder.projection[0].weight.clone()
    load_backbone(encoder, tmp_path / "weights.pth")
    loaded = backbone(encoder)
    assert all(torch.equal(loaded[name], value) for name, value in weights.items() if not name.startswith("fc."))
    assert torch.equal(encoder.projection[0].weight, before)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"width": 4}, r"conv1.weight has shape \(4, 3, 7, 7\), but the encoder's has \(8, 3, 7, 7\); set 'architect"),
        ({"stem": "cifar"}, r"conv1.weight has shape \(8, 3, 3, 3\), .* set 'architecture' to the network, stem and w"),
        ({"network": "resnet34"}, r"holds layer1.2.bn1.bias, which resnet18 does not have; set 'architecture.network'"),
    ],
)
def test_weights_of_another_architecture_are_refused(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    torch.save(published(**changes), tmp_path / "weights.pth")
    with pytest.raises(MismatchError, match=sentence):
        load_backbone(Encoder(SMALL), tmp_path / "weights.pth")


class Evil:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (Evil(), "holds no plain tensors"),
        ({"state_dict": {}}, "holds no state dict"),
        (torch.zeros(3), "holds no state dict"),
        (b"no weights", "holds no plain tensors"),
        (b"", "holds no plain tensors"),
        (None, r"cannot be read \(No such file"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(DataError, match=f"weights.pth: {sentence}"):
        load_backbone(Encoder(SMALL), path)
    assert not Path("harmed").exists()
