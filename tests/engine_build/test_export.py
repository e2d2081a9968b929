from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import openvino
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from engine_build.export import FrameGraph, GraphPrecision, to_onnx
from tests.engine_build.models import SIDE, random_frames, views_of
from trainer.encoder import Architecture, Encoder


def graph_of(views: int, precision: GraphPrecision = "float32", encoder: nn.Module | None = None) -> onnx.ModelProto:
    torch.manual_seed(0)
    smallest = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6))
    return to_onnx(FrameGraph(encoder or smallest, SIDE, views, precision), SIDE)


@pytest.fixture(scope="module", params=["float32", "float16"])
def encoder_graph(request: pytest.FixtureRequest) -> onnx.ModelProto:
    encoder = Encoder(Architecture(width=4, hidden=16, dimensions=12)).eval()
    return onnx.shape_inference.infer_shapes(graph_of(4, request.param, encoder), strict_mode=True)


def with_turned(model: onnx.ModelProto) -> Any:
    """The same graph with the turned pictures, before they are normalised, as a second output."""
    (turn,) = (node for node in model.graph.node if node.op_type == "Transpose")
    float16 = any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)
    dtype = TensorProto.FLOAT16 if float16 else TensorProto.FLOAT
    model.graph.output.append(helper.make_tensor_value_info(turn.output[0], dtype, [None, 3, SIDE, SIDE]))
    return model.SerializeToString()


def by_onnxruntime(model: Any, frames: npt.NDArray[np.uint8]) -> Any:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"frames": frames})[1]


def by_openvino(model: Any, frames: npt.NDArray[np.uint8]) -> Any:
    core = openvino.Core()
    return core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([frames])[1]


@pytest.mark.parametrize(("views", "precision"), [(1, "float32"), (2, "float32"), (4, "float16"), (8, "float32")])
def test_the_graph_turns_frames_bit_for_bit_as_rot90(views: int, precision: GraphPrecision) -> None:
    model = with_turned(graph_of(views, precision))
    frames = random_frames(3)
    wanted = np.concatenate([views_of(frame, views) for frame in frames]).transpose(0, 3, 1, 2)
    for run in (by_onnxruntime, by_openvino):
        np.testing.assert_array_equal(run(model, frames), wanted)


def test_only_the_cast_touches_uint8(encoder_graph: onnx.ModelProto) -> None:
    (frames,) = encoder_graph.graph.input
    assert frames.type.tensor_type.elem_type == TensorProto.UINT8
    assert [node.op_type for node in encoder_graph.graph.node if "frames" in node.input] == ["Cast"]
    assert TensorProto.UINT8 not in types_between(encoder_graph).values()


def test_graphs_stay_within_what_tensorrt_reads(encoder_graph: onnx.ModelProto) -> None:
    assert [(entry.domain, entry.version) for entry in encoder_graph.opset_import] == [("", 18)]
    assert {node.op_type for node in encoder_graph.graph.node} <= {
        *("Cast", "Reshape", "Gather", "Transpose", "Mul", "Add", "Conv", "Relu", "MaxPool"),
        *("ReduceMean", "Gemm", "ReduceL2", "Clip", "Div"),
    }


def test_the_batch_is_free(encoder_graph: onnx.ModelProto) -> None:
    for value, rest in ((encoder_graph.graph.input[0], [SIDE, SIDE, 3]), (encoder_graph.graph.output[0], [4, 1, 12])):
        batch, *others = value.type.tensor_type.shape.dim
        assert batch.dim_value == 0
        assert [size.dim_value for size in others] == rest


@pytest.mark.parametrize("encoder_graph", ["float16"], indirect=True)
def test_a_float16_graph_is_float16_between_cast_and_final_normalisation(encoder_graph: onnx.ModelProto) -> None:
    model = encoder_graph
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer if tensor.name.startswith("encoder")}
    assert set(weights.values()) == {TensorProto.FLOAT16}

    nodes, types = list(model.graph.node), types_between(model)
    last_cast = max(place for place, node in enumerate(nodes) if node.op_type == "Cast")
    assert [node.op_type for node in nodes[last_cast:]] == ["Cast", "ReduceL2", "Clip", "Div", "Reshape"]
    for place, node in enumerate(nodes):
        for name in set(node.output) & types.keys():
            wanted = {TensorProto.FLOAT} if place >= last_cast else {TensorProto.FLOAT16, TensorProto.INT64}
            assert types[name] in wanted, f"{node.op_type} {name}"
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


def test_a_graph_is_reproducible_and_names_no_file_of_this_machine() -> None:
    first, second = (graph_of(2).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert b".py" not in first


def types_between(model: onnx.ModelProto) -> dict[str, int]:
    """The element types of what the nodes hand on to each other."""
    made = {name for node in model.graph.node for name in node.output}
    return {info.name: info.type.tensor_type.elem_type for info in model.graph.value_info if info.name in made}
