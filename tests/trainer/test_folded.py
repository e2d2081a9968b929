from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from quarterturn.trainer.backbone import Backbone
from quarterturn.trainer.folded import fold_norms, same_maps
from tests.trainer.test_backbone import network_of, pictures


def norms_of(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("tf_efficientnet_lite0", ("blocks.2", "blocks.3", "blocks.5")),
        ("resnet18", ("layer2", "layer4")),
        ("test_efficientnet", ("blocks.1", "blocks.2")),
    ],
)
def test_a_folded_backbone_gives_the_same_maps_and_is_stored_as_before(name: str, layers: tuple[str, ...]) -> None:
    backbone = Backbone(network_of(name), layers, 64)
    wanted, stored = backbone(pictures()), {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone.hasten(64)
    assert norms_of(backbone._folded[0]) == 0, "all norms stand beside their convolutions here"
    for found, one in zip(backbone(pictures()), wanted, strict=True):
        torch.testing.assert_close(found, one, rtol=1e-3, atol=1e-4)
    assert backbone.state_dict().keys() == stored.keys()
    assert all(torch.equal(value, stored[key]) for key, value in backbone.state_dict().items())


def test_what_is_trained_is_not_folded() -> None:
    backbone = Backbone(network_of("resnet18"), ("layer2",), 64, trained="all")
    backbone.hasten(64)
    assert backbone._folded == []


class Swapped(nn.Module):
    """Lists its norm behind a convolution that comes after it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(self.norm(x))


@torch.no_grad()
def test_a_copy_that_computes_something_else_is_told() -> None:
    torch.manual_seed(0)
    network = Swapped().eval()
    network.norm.running_mean.add_(1)  # type: ignore[union-attr]
    given = torch.randn(1, 3, 4, 4)
    folded = fold_norms(network)
    assert not same_maps((folded(given),), (network(given),))
    assert same_maps((network(given),), (deepcopy(network)(given),))
    assert not same_maps((network(given) * torch.nan,), (network(given),))
    assert not same_maps((network(given) * 1.01,), (network(given),))


def test_such_a_backbone_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Backbone(network_of("resnet18"), ("layer2",), 64)
    wanted = backbone(pictures())
    monkeypatch.setattr(
        "quarterturn.trainer.backbone.fold_norms", lambda network: fold_norms(network_of("resnet18")).apply(_shift)
    )
    backbone.hasten(64)
    assert all(torch.equal(found, one) for found, one in zip(backbone(pictures()), wanted, strict=True))


def _shift(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        module.weight.data.mul_(1.5)
