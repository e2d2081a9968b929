from __future__ import annotations

from collections.abc import Set
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

from engine_build.export import FrameGraph, to_onnx
from engine_build.golden import render_frames, smallest_cosine
from engine_build.source import GraphPrecision
from tests.engine_build.models import (
    GRID,
    LOCAL,
    LOCAL_SIDE,
    SIDE,
    random_encoder,
    random_frames,
    standardised,
    turned_back,
    views_of,
)
from trainer.encoder import Architecture, Encoder

# What TensorRT's importer takes: the types that docs/operators.md of github.com/onnx/onnx-tensorrt lists for each
# operator (INT64 where it is an index or a shape). Of Pad's modes that file tells nothing; onnxOpImporters.cpp there
# maps `reflect` to SampleMode::kREFLECT, and refuses uint8 for it. Resize knows `linear` with `half_pixel`.
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16})
TENSORRT_READS: dict[str, Set[int]] = {
    "Cast": {*FLOATS, TensorProto.UINT8},
    "Reshape": {*FLOATS, TensorProto.INT64},
    "Gather": {*FLOATS, TensorProto.INT64},
    "Transpose": FLOATS,
    "Unsqueeze": {*FLOATS, TensorProto.INT64},
    "Concat": FLOATS,
    "Pad": {*FLOATS, TensorProto.INT64},
    "ReduceMean": {*FLOATS, TensorProto.INT64},
    "ReduceL2": {*FLOATS, TensorProto.INT64},
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Clip", "Relu"), FLOATS),
    **dict.fromkeys(("Conv", "Gemm", "MaxPool", "AveragePool", "Resize"), FLOATS),
}


class Smallest(nn.Module):
    """In place of an encoder of whole frames."""

    architecture = Architecture(dimensions=6)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.net(pictures)[:, None]
        return vectors


class Blocks(nn.Module):
    """In place of a local encoder: the mean colour of 8 x 8 pixels, beside a number that tells where in the view."""

    architecture = LOCAL.model_copy(update={"dimensions": 4})
    pattern: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pattern", torch.linspace(-1, 1, GRID**2).view(1, 1, GRID, GRID))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        colours = nn.functional.avg_pool2d(pictures, LOCAL_SIDE // GRID)
        pattern = self.pattern + torch.zeros_like(colours[:, :1])
        return torch.cat([pattern, colours], dim=1).flatten(2).transpose(1, 2)


def graph_of(views: int, precision: GraphPrecision = "float32", encoder: Any = None) -> onnx.ModelProto:
    torch.manual_seed(0)
    encoder = encoder or Smallest()
    side = LOCAL_SIDE if encoder.architecture.local else SIDE
    return to_onnx(FrameGraph(encoder, side, views, precision), side)


@pytest.fixture(scope="module", params=["float32", "float16"])
def encoder_graph(request: pytest.FixtureRequest) -> onnx.ModelProto:
    encoder = Encoder(Architecture(width=4, hidden=16, dimensions=12)).eval()
    return onnx.shape_inference.infer_shapes(graph_of(4, request.param, encoder), strict_mode=True)


@pytest.fixture(scope="module", params=["float32", "float16"])
def local_graph(request: pytest.FixtureRequest) -> onnx.ModelProto:
    graph = graph_of(4, request.param, random_encoder(LOCAL))
    return onnx.shape_inference.infer_shapes(graph, strict_mode=True)


ENCODERS = {
    "whole": Architecture(width=8, hidden=16),
    "reflecting": Architecture(stem="cifar", width=8, hidden=16, padding="reflect"),
    "local": LOCAL.model_copy(update={"padding": "zeros"}),
    "local reflecting": LOCAL,
}


@pytest.fixture(scope="module", params=ENCODERS)
def any_graph(request: pytest.FixtureRequest) -> onnx.ModelProto:
    graph = graph_of(8, "float16", random_encoder(ENCODERS[request.param]))
    return onnx.shape_inference.infer_shapes(graph, strict_mode=True)


def with_turned(model: onnx.ModelProto) -> Any:
    """The same graph with the turned pictures, before they are normalised, as a second output."""
    (turn,) = (node for node in model.graph.node if node.op_type == "Transpose")
    float16 = any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)
    dtype = TensorProto.FLOAT16 if float16 else TensorProto.FLOAT
    model.graph.output.append(helper.make_tensor_value_info(turn.output[0], dtype, [None, 3, SIDE, SIDE]))
    return model.SerializeToString()


def by_onnxruntime(model: Any, frames: npt.NDArray[np.uint8]) -> Any:
    """The graph's last output."""
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"frames": frames})[-1]


def by_openvino(model: Any, frames: npt.NDArray[np.uint8]) -> Any:
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled([frames])[len(compiled.outputs) - 1]


@pytest.mark.parametrize(("views", "precision"), [(1, "float32"), (2, "float32"), (4, "float16"), (8, "float32")])
def test_the_graph_turns_frames_bit_for_bit_as_rot90(views: int, precision: GraphPrecision) -> None:
    model = with_turned(graph_of(views, precision))
    frames = random_frames(3)
    wanted = np.concatenate([views_of(frame, views) for frame in frames]).transpose(0, 3, 1, 2)
    for run in (by_onnxruntime, by_openvino):
        np.testing.assert_array_equal(run(model, frames), wanted)


@pytest.mark.parametrize("views", [1, 2, 4, 8])
def test_the_graph_turns_local_grids_back(views: int) -> None:
    """What is seen in a view, and where in the view it is, comes at the place of the upright frame it belongs to."""
    frames = random_frames(2, side=LOCAL_SIDE)
    wanted = []
    for frame in frames:
        for view, turned in enumerate(views_of(frame, views)):
            grid = np.empty((GRID, GRID, 4))
            grid[..., 0] = np.linspace(-1, 1, GRID**2).reshape(GRID, GRID)
            grid[..., 1:] = standardised(turned).reshape(GRID, 8, GRID, 8, 3).mean(axis=(1, 3))
            grid /= np.linalg.norm(grid, axis=-1, keepdims=True)
            wanted.append(turned_back(grid, view).reshape(GRID**2, 4))
    model = graph_of(views, encoder=Blocks()).SerializeToString()
    for run in (by_onnxruntime, by_openvino):
        np.testing.assert_allclose(run(model, frames), np.reshape(wanted, (2, views, GRID**2, 4)), atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_each_frame_is_normalised_alone(precision: GraphPrecision) -> None:
    """The frames beside it, brightness and gain do not matter; a flat frame is not blown up."""
    model = graph_of(1, precision, Blocks()).SerializeToString()
    frames = random_frames(4, side=LOCAL_SIDE)
    frames[1] = frames[0] // 2 + 60
    frames[2] = 255 - frames[3] // 128  # 254 or 255
    close = 1e-5 if precision == "float32" else 2e-3
    for run in (by_onnxruntime, by_openvino):
        together = run(model, frames)
        for n in range(4):
            np.testing.assert_allclose(run(model, frames[n : n + 1])[0], together[n], atol=close)
        np.testing.assert_allclose(together[1], together[0], atol=0.02)
        flat = np.abs(together[2, 0, :, 1:]) / np.abs(together[2, 0, :, :1])
        assert flat.max() < 10
        assert np.isfinite(together).all()


def test_only_the_cast_touches_uint8(any_graph: onnx.ModelProto) -> None:
    (frames,) = any_graph.graph.input
    assert frames.type.tensor_type.elem_type == TensorProto.UINT8
    assert [node.op_type for node in any_graph.graph.node if "frames" in node.input] == ["Cast"]
    assert TensorProto.UINT8 not in types_between(any_graph).values()


def test_graphs_stay_within_what_tensorrt_reads(any_graph: onnx.ModelProto) -> None:
    assert [(entry.domain, entry.version) for entry in any_graph.opset_import] == [("", 18)]
    types = all_types(any_graph)
    for node in any_graph.graph.node:
        found = {types[name] for name in (*node.input, *node.output) if name}
        assert found <= TENSORRT_READS[node.op_type], f"{node.op_type} {node.name}"
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if node.op_type == "Resize":
            assert (attributes["mode"], attributes["coordinate_transformation_mode"]) == (b"linear", b"half_pixel")
            assert not attributes.get("antialias")
        if node.op_type == "Pad":
            assert attributes["mode"] == b"reflect"
        if node.op_type in ("MaxPool", "AveragePool"):
            assert len(node.output) == 1
            assert len(attributes["kernel_shape"]) == 2


def test_reflecting_graphs_pad_before_they_convolve(any_graph: onnx.ModelProto, request: pytest.FixtureRequest) -> None:
    reflects = "reflecting" in request.node.callspec.id
    assert any(node.op_type == "Pad" for node in any_graph.graph.node) is reflects


def test_a_node_gets_one_floating_type(any_graph: onnx.ModelProto) -> None:
    """A strongly typed network mixes none; the factors of Resize are float32 whatever it resizes."""
    types = all_types(any_graph)
    for node in any_graph.graph.node:
        given = node.input[:1] if node.op_type == "Resize" else node.input
        floats = {types[name] for name in given if name} & FLOATS
        assert len(floats) <= 1, f"{node.op_type} {node.name}"


@pytest.mark.parametrize("architecture", ENCODERS.values(), ids=ENCODERS)
def test_float16_and_float32_graphs_agree(architecture: Architecture) -> None:
    encoder = random_encoder(architecture)
    frames = render_frames(LOCAL_SIDE if architecture.local else SIDE, 4)
    exact, half = (
        by_onnxruntime(graph_of(4, precision, encoder).SerializeToString(), frames)
        for precision in ("float32", "float16")
    )
    assert 0.999 <= smallest_cosine(half, exact) < 0.9999999, "close, and yet not computed in float32"
    assert smallest_cosine(half[::-1], exact) < 0.99, "the comparison tells frames apart"


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


def test_a_local_graph_has_a_grid_for_each_view_of_any_number_of_frames(local_graph: onnx.ModelProto) -> None:
    (found,) = local_graph.graph.output
    batch, *others = found.type.tensor_type.shape.dim
    assert batch.dim_value == 0
    assert [size.dim_value for size in others] == [4, 64, 12]
    assert found.type.tensor_type.elem_type == TensorProto.FLOAT
    for count in (1, 3):
        frames = random_frames(count, side=LOCAL_SIDE)
        found = by_onnxruntime(local_graph.SerializeToString(), frames)
        assert found.shape == (count, 4, 64, 12)
        np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize("local_graph", ["float16"], indirect=True)
def test_a_local_float16_graph_takes_statistics_and_lengths_in_float32(local_graph: onnx.ModelProto) -> None:
    model, types = local_graph, types_between(local_graph)
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer if tensor.name.startswith("encoder")}
    assert set(weights.values()) == {TensorProto.FLOAT16}

    nodes = list(model.graph.node)
    down = next(n for n, node in enumerate(nodes) if types.get(node.output[0]) == TensorProto.FLOAT16)
    up = [n for n, node in enumerate(nodes) if n > down and node.op_type == "Cast"]
    assert [node.op_type for node in nodes[: down + 1]] == [
        *("Cast", "ReduceMean", "Sub", "Pow", "ReduceMean", "Sqrt", "Clip", "Div", "Cast"),
    ]
    assert len(up) == 2, "the logit and the features"
    assert {nodes[n].input[0] for n in up} <= {node.output[0] for node in nodes if node.op_type == "Conv"}

    wide = {nodes[n].output[0] for n in up}  # what comes of them, in float32 to the end
    for n, node in enumerate(nodes):
        if n < down or wide & {*node.output, *node.input}:
            expected = TensorProto.FLOAT
            wide |= set(node.output) if n > down else set()
        else:
            expected = TensorProto.INT64 if not set(node.input) & types.keys() and n != down else TensorProto.FLOAT16
        found = {types[name] for name in node.output if name in types}
        assert found <= {expected}, f"{node.op_type} {node.output[0]}"
    assert [node.op_type for node in nodes if node.output[0] in wide] == [
        *("Cast", "Div", "Cast", "Mul", "Add", "Concat", "Reshape", "Transpose"),
        *("ReduceL2", "Clip", "Div", "Reshape", "Gather", "Reshape"),
    ]
    of_stages = {"Conv", "Relu", "MaxPool", "AveragePool", "Resize", "Pad", "Add"}
    of_encoder = [node for node in nodes if node.op_type in of_stages and node.output[0] not in wide]
    assert {types[node.output[0]] for node in of_encoder} == {TensorProto.FLOAT16}


def test_a_graph_is_reproducible_and_names_no_file_of_this_machine() -> None:
    first, second = (graph_of(2).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert b".py" not in first


def all_types(model: onnx.ModelProto) -> dict[str, int]:
    """The element types of all tensors."""
    graph = model.graph
    infos = (*graph.value_info, *graph.input, *graph.output)
    constants = {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {**constants, **{info.name: info.type.tensor_type.elem_type for info in infos}}


def types_between(model: onnx.ModelProto) -> dict[str, int]:
    """The element types of what the nodes hand on to each other."""
    made = {name for node in model.graph.node for name in node.output}
    return {info.name: info.type.tensor_type.elem_type for info in model.graph.value_info if info.name in made}
