"""The depths at which place features are taken: which layers of a network, and how large a place is."""

from __future__ import annotations

import math

from pydantic import Field
from torch import nn

from quarterturn.trainer.backbone import listed_maps
from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.settings import Settings


class DepthSettings(Settings):
    """One depth: the layers whose maps are joined, and the pixels of the frame that a place covers along a side.

    `halved` are layers whose maps of the frame at half its size are joined, too: they see twice as much around a place.
    """

    layers: tuple[str, ...] = Field(min_length=1)
    halved: tuple[str, ...] = ()
    stride: int = Field(gt=0)


Depths = dict[str, DepthSettings]

_LITE: Depths = {
    "middle": DepthSettings(layers=("blocks.4",), stride=16),
    "deep": DepthSettings(layers=("blocks.4", "blocks.5"), halved=("blocks.4", "blocks.5"), stride=32),
}
_MEASURED = dict.fromkeys(("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"), _LITE)
"""Networks whose depths were chosen by measuring."""
_MEASURED_HEAD = ("blocks.2", "blocks.3", "blocks.4", "blocks.5")


def default_depths(name: str, network: nn.Module) -> Depths:
    """The depths of the network `name` where none are set.

    Of stages that halve the map: the last map of stride 8 and the last of stride 16, both in places of 16 px, and that
    of stride 16 joined with the last of stride 32, in places of 32 px; strides to the nearest power of two. Of a
    transformer, whose maps are all of one size: that after a third, after two thirds and at the end of its blocks.

    Raises:
        ConfigError: the network has no map of such strides.
    """
    architecture = name.partition(".")[0]  # of "architecture.weights"
    if architecture in _MEASURED:
        return _MEASURED[architecture]
    maps = listed_maps(network)
    last = {2 ** round(math.log2(stride)): (layer, stride) for layer, stride in maps.items()}
    if len(last) == 1:
        return _of_one_size(maps)
    depths = {}
    if 8 in last:
        depths["shallow"] = DepthSettings(layers=(last[8][0],), stride=2 * last[8][1])
    if 16 in last:
        depths["middle"] = DepthSettings(layers=(last[16][0],), stride=last[16][1])
    if 32 in last:
        depths["deep"] = DepthSettings(
            layers=tuple(last[one][0] for one in (16, 32) if one in last), stride=last[32][1]
        )
    if not depths:
        raise ConfigError(
            f"architecture.depths: {name} has no map of stride 8, 16 or 32 to choose, only of "
            f"{', '.join(map(str, maps.values()))}; name the layers of each depth"
        )
    return depths


def default_head_layers(name: str, network: nn.Module) -> tuple[str, ...]:
    """The layers that the pasted-or-not head looks at where none are set: those of all default depths."""
    if name.partition(".")[0] in _MEASURED:
        return _MEASURED_HEAD
    return tuple(dict.fromkeys(layer for depth in default_depths(name, network).values() for layer in depth.layers))


def _of_one_size(maps: dict[str, int]) -> Depths:
    layers, stride = list(maps), next(iter(maps.values()))
    place = stride * max(1, 16 // stride)
    ends = {"shallow": len(layers) // 3, "middle": 2 * len(layers) // 3, "deep": len(layers)}
    return {depth: DepthSettings(layers=(layers[end - 1],), stride=place) for depth, end in ends.items() if end > 0}
