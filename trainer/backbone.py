"""The backbone: a published network of timm's, by its name, cut behind the deepest layer that is used."""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import timm
import torch
from timm.models import register_notrace_module
from torch import Tensor, nn
from torch.fx.proxy import TraceError
from torch.nn import functional as F

from quarterturn.trainer.folded import fold_norms, same_maps
from quarterturn.worker.contract.errors import ConfigError

Stem = Literal["own", "cifar"]
Trained = Literal["none", "last", "all"]


def create_network(name: str, stem: Stem, side: int, published: bool = False) -> nn.Module:
    """The whole network `name` of timm for frames of `side` px, with random weights or those that timm downloads.

    A network whose weights depend on the side, but can be made to fit another, comes in its own.

    Raises:
        ConfigError: the stem does not go with the network.
    """
    network = timm.create_model(name, pretrained=published)
    if not hasattr(network, "set_input_size"):
        with contextlib.suppress(TypeError):  # "unexpected keyword argument": it takes frames of any side
            network = timm.create_model(name, pretrained=published, img_size=side)
    if stem == "cifar":
        _give_cifar_stem(name, network)
    return network


def _give_cifar_stem(name: str, network: nn.Module) -> None:
    """A 3x3 convolution of stride 1, no pooling: He et al., arXiv 1512.03385, section 4.2."""
    own = getattr(network, "conv1", None)
    if not isinstance(network, timm.models.ResNet) or not isinstance(own, nn.Conv2d):
        raise ConfigError(f"architecture.stem: only a plain ResNet takes 'cifar', and {name} is none; set it to 'own'")
    stem = nn.Conv2d(3, own.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    network.set_submodule("conv1", stem)
    network.set_submodule("maxpool", nn.Identity())


def listed_maps(network: nn.Module) -> dict[str, int]:
    """The feature maps that timm lists for a whole network, from shallow to deep: their names and strides."""
    return {info["module"]: info["reduction"] for info in cast("list[dict[str, Any]]", network.feature_info)}


def suggest(name: str, known: Sequence[str]) -> str:
    """What to say to someone who wrote `name`, which is none of `known`."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known[:8])} and others"


def without_counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All but the numbers of batches that norms have seen, which nothing depends on and old files lack."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}


class Backbone(nn.Module):
    """(N, 3, S, S) normalised pixels -> a feature map (N, C, H, H) for each layer used, from shallow to deep.

    What lies behind the deepest one is neither computed nor stored; parameters keep timm's names. What is not trained
    stays in evaluation mode. A map whose places do not divide the frame, as convolutions without padding took its
    rim, is resized to the stride that is meant, a power of two.

    Args:
        network: of `create_network`; it is cut, so it belongs to the backbone from now on.
        layers: names of maps that timm lists, or of modules that give maps.
        side: S, of the frames, in pixels; a convolutional network takes others, too.
        trained: which parameters change: none, those that only the deepest map depends on, or all.

    Raises:
        ConfigError: a layer is unknown or gives no map, or the network does not take frames of this side.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str], side: int, trained: Trained = "none") -> None:
        super().__init__()
        listed = list(listed_maps(network))
        modules = [name for name, _ in network.named_modules() if name]
        for layer in set(layers) - {*listed, *modules}:
            known = list(dict.fromkeys([*listed, *(name for name in modules if name.count(".") <= 1)]))
            raise ConfigError(f"architecture: the backbone has no layer '{layer}'; {suggest(layer, known)}")
        order = listed if set(layers) <= set(listed) else modules
        self.layers = tuple(sorted(set(layers), key=order.index))
        self._indices = [listed.index(layer) for layer in self.layers] if order is listed else None
        if hasattr(network, "set_input_size"):
            cast(Any, network).set_input_size(img_size=(side, side))  # resamples position embeddings
        if trained != "none":
            _replace_strided(network)
        self._folded: list[nn.Module] = []  # not registered, so it is neither stored nor exported
        self.network = self._cut(network).eval()
        self._factors = [1.0] * len(self.layers)
        self.channels, self.grids = self._measure(side)
        self._freeze(trained, side)

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, S, S) -> one (N, C, H, H) a layer."""
        return tuple(resize_map(found, by) for found, by in zip(self._maps(pictures), self._factors, strict=True))

    @torch.no_grad()
    def hasten(self, side: int) -> None:
        """Compute with batch norms folded into convolutions from now on, if nothing is trained and the maps agree.

        Call it after the weights are loaded; later changes of them have no effect.
        """
        if any(parameter.requires_grad for parameter in self.network.parameters()):
            return
        generator = torch.Generator().manual_seed(0)
        pictures = torch.randn(1, 3, side, side, generator=generator).to(next(self.network.parameters()).device)
        wanted = self(pictures)
        self._folded = [fold_norms(self.network)]
        if not same_maps(self(pictures), wanted):
            self._folded = []

    @torch.no_grad()
    def takes(self, side: int) -> bool:
        """Whether it also takes frames of `side` px."""
        try:
            self(next(self.network.parameters()).new_zeros(1, 3, side, side))
        except (AssertionError, RuntimeError, ValueError):
            return False
        return True

    def train(self, mode: bool = True) -> Backbone:
        """Training mode for what is trained; the rest stays in evaluation mode."""
        super().train(mode)
        for module in self.network.modules():
            if not any(parameter.requires_grad for parameter in module.parameters()):
                module.train(False)
        return self

    def _maps(self, pictures: Tensor) -> list[Tensor]:
        network = cast(Any, self._folded[0] if self._folded else self.network)
        if self._indices is None:
            maps = network(pictures)
            return [maps[layer] for layer in self.layers]
        maps = network.forward_intermediates(
            pictures, indices=self._indices, stop_early=True, output_fmt="NCHW", intermediates_only=True
        )
        return cast("list[Tensor]", maps)

    def _cut(self, network: Any) -> nn.Module:
        """`network` without what lies behind the deepest layer.

        The maps that timm lists come from timm itself, which knows what is a map among a transformer's tokens; any
        other layer is found by tracing the network.
        """
        if self._indices is not None:
            network.prune_intermediate_layers(self._indices, prune_norm=True, prune_head=True)
            return cast(nn.Module, network)
        try:
            return cast(nn.Module, timm.models.create_feature_extractor(network, {name: name for name in self.layers}))
        except (TraceError, ValueError, TypeError, RuntimeError) as error:
            raise ConfigError(
                f"architecture: the backbone's layers {', '.join(self.layers)} cannot be reached by name; take some of "
                + ", ".join(listed_maps(network))
            ) from error

    @torch.no_grad()
    def _measure(self, side: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The channels and the side of each layer's map; finds by how much to resize it."""
        try:
            maps = self._maps(torch.zeros(1, 3, side, side))
        except (AssertionError, RuntimeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"architecture.backbone: takes no frames of {side} px ({reason}); change 'data.side'"
            ) from error
        grids = []
        for number, (layer, found) in enumerate(zip(self.layers, maps, strict=True)):
            if found.ndim != 4 or found.shape[2] != found.shape[3]:
                shape = tuple(found.shape)
                raise ConfigError(
                    f"architecture: the backbone's layer '{layer}' gives {shape}, no square map (N, C, H, H)"
                )
            grid = found.shape[2]
            if side % grid:
                grid = side // 2 ** round(math.log2(side / grid))
                self._factors[number] = grid / found.shape[2]
            grids.append(grid)
        return tuple(found.shape[1] for found in maps), tuple(grids)

    def _freeze(self, trained: Trained, side: int) -> None:
        """Let gradients reach only the parameters that are trained."""
        parameters = list(self.network.parameters())
        if trained == "last" and len(self.layers) > 1:
            *others, _ = self(torch.zeros(1, 3, side, side))
            total = torch.stack([found.sum() for found in others]).sum()
            reached = torch.autograd.grad(total, parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, reached, strict=True):
                parameter.requires_grad_(gradient is None)
        elif trained == "none":
            self.network.requires_grad_(False)


def resize_map(maps: Tensor, factor: float) -> Tensor:
    """(N, C, H, W) -> (N, C, H · factor, W · factor), bilinear; the products are to be whole numbers."""
    if factor == 1:
        return maps
    if not factor.is_integer():
        factor *= 1 + 1e-6  # runtimes round the product down, after rounding the factor to float32
    return F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)


@register_notrace_module  # it is as much of a leaf as the convolution in whose place it stands
class Unstrided(nn.Conv2d):
    """A strided 1×1 convolution, in training computed as a plain one of every `stride`-th pixel: the same sums.

    The gradient of a strided one writes beyond its memory in oneDNN (torch 2.13) on CPUs with AVX2 but not AVX-512.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C, ⌈H / stride⌉, ⌈W / stride⌉)."""
        if not self.training:
            return super().forward(x)
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias, groups=self.groups)


def _replace_strided(network: nn.Module) -> None:
    for module in network.modules():
        if type(module) is nn.Conv2d and module.kernel_size == (1, 1) and module.stride != (1, 1):
            module.__class__ = Unstrided  # keeps name and weights
