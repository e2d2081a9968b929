"""What TensorRT's engine inspector says of a plan: in which type each layer computes."""

from __future__ import annotations

import json
import re
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

_NAMES = re.compile(r"[^\s\[\]{}(),+\x1e]+")


@dataclass(frozen=True)
class Layer:
    """A layer of a plan: the names of the graph's layers that it does the work of, and the types that it handles."""

    names: frozenset[str]
    types: frozenset[str]


def read_layers(inspected: str) -> list[Layer]:
    """The layers of the inspector's JSON; what it tells no types of has none."""
    layers = (layer for layer in json.loads(inspected)["Layers"] if isinstance(layer, dict))
    return [Layer(_names(layer), _types(layer)) for layer in layers]


def in_float32(layers: list[Layer], meant: Set[str]) -> list[str]:
    """The names in `meant`, layers that were to compute in float16, whose plan layers know of nothing but float32.

    A layer with float16 on one side and float32 on the other has a cast of the graph fused into it.
    """
    return sorted({name for layer in layers if layer.types == {"float32"} for name in layer.names & meant})


def _names(layer: dict[str, Any]) -> frozenset[str]:
    return frozenset(_NAMES.findall(f"{layer.get('Name', '')} {layer.get('Metadata', '')}"))


def _types(layer: dict[str, Any]) -> frozenset[str]:
    """The floating-point types among its tensors; TensorRT writes "Half", or "Row major linear FP16 format"."""
    tensors = (tensor for side in ("Inputs", "Outputs") for tensor in layer.get(side, []) if isinstance(tensor, dict))
    texts = [str(text) for tensor in tensors for key, text in tensor.items() if re.search("format|type", key, re.I)]
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    return frozenset({_WORDS[word] for word in words & _WORDS.keys()})


_WORDS = {"FP16": "float16", "Half": "float16", "FP32": "float32", "Float": "float32"}
