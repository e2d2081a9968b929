from __future__ import annotations

import json
from typing import Any

import pytest

from quarterturn.engine_build.layers import in_float32, read_layers


def layer(name: str, inputs: list[str], outputs: list[str], **more: Any) -> dict[str, Any]:
    def tensors(texts: list[str]) -> list[dict[str, Any]]:
        return [{"Name": "x", "Location": "Device", "Dimensions": [8, 3], "Format/Datatype": text} for text in texts]

    return {
        "Name": name,
        "LayerType": "CaskConvolution",
        "Inputs": tensors(inputs),
        "Outputs": tensors(outputs),
        **more,
    }


def wrong(*layers: Any) -> list[str]:
    return in_float32(
        read_layers(json.dumps({"Layers": list(layers), "Bindings": []})), {"node_Conv_1", "node_Conv_12"}
    )


LINEAR_32, LINEAR_16 = "Row major linear FP32", "Row major linear FP16 format"
CHANNELS_16 = "Channel major FP16 format where channel % 8 == 0"


@pytest.mark.parametrize("text", ["Float", LINEAR_32, "Channel major FP32 format"])
def test_a_layer_that_knows_of_float32_alone_is_found(text: str) -> None:
    assert wrong(layer("node_Conv_1 + node_relu", [text], [text])) == ["node_Conv_1"]
    assert wrong(layer("", [text], [text], Metadata="[ONNX Layer: node_Conv_12]\x1e[ONNX Layer: node_relu]")) == [
        "node_Conv_12"
    ]


def test_of_a_block_only_the_ends_are_named_which_says_nothing_of_what_is_inside() -> None:
    assert wrong(layer("{ForeignNode[node_Conv_1...node_Conv_12]}", ["UInt8"], ["Float"])) == []


@pytest.mark.parametrize("text", ["Half", LINEAR_16, CHANNELS_16])
def test_float16_and_casts_fused_into_a_layer_pass(text: str) -> None:
    assert wrong(layer("node_Conv_1", [text], [text])) == []
    assert wrong(layer("node_Conv_1 + node_cast", [text], ["Float"])) == []
    assert wrong(layer("node_cast + node_Conv_1", [LINEAR_32], [text])) == []


def test_a_residual_of_another_type_is_no_proof() -> None:
    assert wrong(layer("node_Conv_1 + node_add", ["Half", "Float"], ["Float"])) == []


def test_names_are_compared_whole() -> None:
    assert wrong(layer("node_Conv_123", ["Float"], ["Float"])) == []
    assert wrong(layer("Reformatting CopyNode for node_Conv_1_in", ["Float"], ["Float"])) == []


@pytest.mark.parametrize("text", ["N/A due to dynamic shapes", "Int8", "UInt8", "BFloat16", "BF16", "Int64"])
def test_other_and_unknown_types_say_nothing(text: str) -> None:
    assert wrong(layer("node_Conv_1", [text], [text])) == []
    assert {
        type_ for one in read_layers(json.dumps({"Layers": [layer("a", [text], [])]})) for type_ in one.types
    } == set()


def test_layers_without_details_say_nothing() -> None:
    assert wrong("node_Conv_1", {"Name": "node_Conv_1"}) == []


def test_newer_words_for_the_type_are_read() -> None:
    tensor = {"Name": "Half", "Format": "Row major", "Datatype": "Float"}
    assert wrong({"Name": "node_Conv_1", "Inputs": [tensor], "Outputs": []}) == ["node_Conv_1"]
