from __future__ import annotations

from copy import deepcopy
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quarterturn.trainer.backbone import Backbone, Trained, Unstrided, create_network
from quarterturn.worker.contract.errors import ConfigError


def network_of(name: str, side: int = 64, stem: Any = "own") -> nn.Module:
    """Random weights, and batch statistics such as training leaves."""
    torch.manual_seed(0)
    network = create_network(name, stem, side)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
            norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return network.eval()


def pictures(side: int = 64, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def outputs_of(network: nn.Module, layers: tuple[str, ...], given: Tensor) -> list[Tensor]:
    """What the modules of the whole network give, as timm's own forward runs them."""
    found: dict[str, Tensor] = {}
    for name in layers:
        network.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: found.setdefault(name, out))
    network(given)
    return [found[name] for name in layers]


@pytest.mark.parametrize(
    ("name", "layers", "channels", "grids"),
    [
        ("resnet18", ("layer2", "layer3"), (128, 256), (8, 4)),
        ("tf_efficientnet_lite0", ("blocks.2", "blocks.3", "blocks.4", "blocks.5"), (40, 80, 112, 192), (8, 4, 4, 2)),
        ("resnet18", ("layer1.0.conv1", "layer3.1.conv2"), (64, 256), (16, 4)),
    ],
    ids=["listed by timm", "the default", "inside of blocks"],
)
def test_maps_are_those_of_the_whole_network(
    name: str, layers: tuple[str, ...], channels: tuple[int, ...], grids: tuple[int, ...]
) -> None:
    network = network_of(name)
    backbone = Backbone(deepcopy(network), [*reversed(layers), layers[0]], 64)
    assert (backbone.layers, backbone.channels, backbone.grids) == (layers, channels, grids)
    found, wanted = backbone(pictures()), outputs_of(network, layers, pictures())
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, wanted, strict=True))
    assert [tuple(one.shape) for one in found] == [(2, c, g, g) for c, g in zip(channels, grids, strict=True)]

    whole, kept = network.state_dict(), backbone.network.state_dict()
    assert all(torch.equal(tensor, whole[key]) for key, tensor in kept.items()), "names are timm's own"
    behind = {"resnet18": ("layer4.", "fc."), "tf_efficientnet_lite0": ("blocks.6.", "conv_head.", "classifier.")}
    assert not [key for key in kept if key.startswith(behind[name])]
    assert [key for key in whole if key.startswith(behind[name])]


def test_maps_of_a_transformer_are_its_tokens_row_by_row() -> None:
    network = network_of("test_vit", 160)
    layers = ("blocks.1", "blocks.3")
    backbone = Backbone(deepcopy(network), layers, 160)
    given = pictures(160)
    for found, tokens in zip(backbone(given), outputs_of(network, layers, given), strict=True):
        assert found.shape == (2, 64, 10, 10)
        places = tokens[:, -100:]  # behind the class token
        torch.testing.assert_close(found[:, :, 3, 7], places[:, 3 * 10 + 7])
        torch.testing.assert_close(found.flatten(2), places.transpose(1, 2))
    assert not [key for key in backbone.network.state_dict() if key.startswith(("blocks.4.", "head.", "norm."))]


@pytest.mark.parametrize("name", ["test_vit", "convit_tiny"], ids=["of adaptable size", "created for its size"])
def test_a_transformer_is_made_for_the_side_of_the_frame(name: str) -> None:
    backbone = Backbone(network_of(name, 64), ["blocks.2"], 64)
    assert backbone.grids == (4,)
    assert backbone(pictures())[0].isfinite().all()


def test_a_map_without_its_rim_is_resized_to_the_stride_that_is_meant() -> None:
    network = network_of("pit_ti_224", 64)  # 7 x 7 places of 16 px, 8 px apart
    found = Backbone(deepcopy(network), ["transformers.0"], 64)(pictures())[0].numpy()
    (tokens,) = Backbone(network, ["transformers.0"], 64)._maps(pictures())
    assert (tokens.shape[2:], found.shape[2:]) == ((7, 7), (8, 8))
    for place, channel in ((0, 3), (1, 40)):
        wanted = cv2.resize(tokens[place, channel].numpy(), (8, 8), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(found[place, channel], wanted, atol=1e-4)


def test_the_cifar_stem_keeps_the_size_of_the_frame() -> None:
    backbone = Backbone(network_of("resnet34", 32, "cifar"), ["layer1", "layer2", "layer3", "layer4"], 32)
    assert backbone.grids == (32, 16, 8, 4)
    stem = backbone.network.get_submodule("conv1")
    assert isinstance(stem, nn.Conv2d)
    assert (stem.kernel_size, stem.stride, stem.padding) == ((3, 3), (1, 1), (1, 1))


LAYERS = ("layer2", "layer3", "layer4")


@pytest.mark.parametrize(("trained", "parts"), [("none", ()), ("last", ("layer4.",)), ("all", ("",))])
def test_only_what_is_trained_gets_gradients_and_batch_statistics(trained: Trained, parts: tuple[str, ...]) -> None:
    backbone = Backbone(network_of("resnet18"), LAYERS, 64, trained)
    learned = {name for name, parameter in backbone.network.named_parameters() if parameter.requires_grad}
    assert learned == {name for name, _ in backbone.network.named_parameters() if name.startswith(parts or "\0")}
    before = {name: value.clone() for name, value in backbone.network.state_dict().items()}

    maps = backbone.train()(pictures())
    assert [found.requires_grad for found in maps] == [trained == "all", trained == "all", trained != "none"]
    after = backbone.network.state_dict()
    moved = {name for name in before if name.endswith("running_mean") and not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.endswith("running_mean") and name.startswith(parts or "\0")}
    assert not any(module.training for module in backbone.eval().modules())


@pytest.mark.parametrize("layers", [LAYERS, ("layer2.0", "layer4.1.conv2")], ids=["by timm", "traced"])
def test_gradients_are_those_of_the_network_as_published(layers: tuple[str, ...]) -> None:
    """Though no strided 1x1 convolution is left in it, see `Unstrided`."""
    network = network_of("resnet18").double()
    backbone = Backbone(deepcopy(network).float(), layers, 64, "all").double()
    strided = [one for one in backbone.modules() if isinstance(one, nn.Conv2d) and one.kernel_size == (1, 1)]
    assert strided
    assert all(type(one) is Unstrided for one in strided)
    given = pictures().double()
    torch.stack([found.square().mean() for found in backbone.train()(given)]).sum().backward()
    wanted = outputs_of(network.train(), layers, given)
    torch.stack([found.square().mean() for found in wanted]).sum().backward()
    whole = dict(network.named_parameters())
    for name, parameter in backbone.network.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name].grad, msg=name)


@pytest.mark.parametrize("channels", [4, 12])  # where oneDNN's own strided gradient destroys the heap on AVX2
def test_an_unstrided_convolution_has_the_gradient_of_a_strided_one(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    convolution = Unstrided(channels, 2 * channels, 1, stride=2, bias=False).double()
    given = torch.randn(4, channels, 7, 6, generator=generator, dtype=torch.float64)
    found = convolution.train()(given)
    assert torch.equal(found, convolution.eval()(given))
    gradient = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    found.backward(gradient)
    assert convolution.weight.grad is not None
    wanted = torch.einsum("nohw,nihw->oi", gradient, given[:, :, ::2, ::2])
    torch.testing.assert_close(convolution.weight.grad[:, :, 0, 0], wanted)


@pytest.mark.parametrize(
    ("name", "layers", "side", "sentence"),
    [
        ("resnet18", ["layer5"], 64, "architecture: the backbone has no layer 'layer5'; did you mean 'layer4'?"),
        (
            "resnet18",
            ["xyz"],
            64,
            "architecture: the backbone has no layer 'xyz'; known are act1, layer1, .*, maxpool and others$",
        ),
        (
            "resnet18",
            ["layer2", "fc"],
            64,
            r"the backbone's layer 'fc' gives \(1, 1000\), no square map \(N, C, H, H\)",
        ),
        ("test_vit", ["blocks.2.mlp"], 64, r"layer 'blocks.2.mlp' gives \(1, 17, 64\), no square map \(N, C, H, H\)"),
        ("efficientformer_l1", ["stages.3"], 64, r"architecture.backbone: takes no frames of 64 px \(.*\); change 'da"),
        (
            "test_efficientnet",
            ["blocks.2.0.bn1.act"],
            64,
            "blocks.2.0.bn1.act cannot be reached by name; take some of bl",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(name: str, layers: list[str], side: int, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        Backbone(network_of(name, side), layers, side)
    assert "\n" not in str(caught.value)


def test_only_a_resnet_takes_the_cifar_stem() -> None:
    with pytest.raises(ConfigError, match="only a plain ResNet takes 'cifar', and resnet18d is none; set it to 'own'"):
        create_network("resnet18d", "cifar", 32)
    with pytest.raises(ConfigError, match="only a plain ResNet takes 'cifar', and test_vit is none; set it to 'own'"):
        create_network("test_vit", "cifar", 32)
