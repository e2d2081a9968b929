from __future__ import annotations

from collections import Counter
from collections.abc import Set
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import openvino
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from quarterturn.engine_build.export import Exporter, FrameGraph, to_onnx
from quarterturn.engine_build.source import GraphPrecision
from quarterturn.trainer.architecture import Architecture
from quarterturn.trainer.basis import fit_bases
from quarterturn.trainer.encoder import Encoder
from quarterturn.trainer.weights import create_encoder
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.manifest import Depth, EmbeddingSpec
from quarterturn.worker.contract.views import Views
from tests.engine_build.models import (
    HALVED_TRANSFORMER,
    ODD_SIDE,
    ODDLY_HALVED,
    SIDE,
    WHOLE,
    oracle,
    random_encoder,
    random_frames,
    save_random_model,
    turned_back,
    views_of,
)

# What TensorRT's importer takes: the types that docs/operators.md of github.com/onnx/onnx-tensorrt lists for each
# operator (INT64 where it is an index or a shape). Resize knows `linear` with `half_pixel`.
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16})
SHAPES = frozenset({*FLOATS, TensorProto.INT64})
TENSORRT_READS: dict[str, Set[int]] = {
    "Cast": {*FLOATS, TensorProto.UINT8},
    **dict.fromkeys(("Reshape", "Gather", "Slice", "Squeeze", "Unsqueeze", "Concat", "Expand", "Shape", "Pad"), SHAPES),
    **dict.fromkeys(("ReduceMean", "ReduceL2", "Mul"), SHAPES),
    **dict.fromkeys(("Add", "Div", "Clip", "Relu", "Sigmoid", "Erf", "Softmax", "Transpose"), FLOATS),
    **dict.fromkeys(("Conv", "Gemm", "MatMul", "MaxPool", "AveragePool", "Resize"), FLOATS),
    **dict.fromkeys(("BatchNormalization", "LayerNormalization"), FLOATS),
}

ENCODERS = ("default", "oddly halved", "transformer", "whole frames")
PRECISIONS: tuple[GraphPrecision, ...] = ("float32", "float16")


class Blocks(nn.Module):
    """In place of an encoder: the mean colour of 8 x 8 pixels beside a number that tells where in the view they are."""

    pattern: torch.Tensor
    takes_halves = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pattern", torch.linspace(-1, 1, 64).view(1, 1, 8, 8))

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels - torch.tensor([64.0, 96.0, 128.0]).view(3, 1, 1)) / 32

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        colours = nn.functional.avg_pool2d(pictures, 8)
        pattern = self.pattern.to(pictures.dtype) + 0 * colours[:, :1]
        places = torch.cat([pattern, colours], dim=1).float()
        halves = nn.functional.avg_pool2d(places, 2)[:, 0]
        return {
            "frame": colours.mean(dim=(2, 3)).float(),
            "places.coloured": places.flatten(2).transpose(1, 2),
            "logits": halves.flatten(1),
        }


def spec_of_blocks(views: Views) -> EmbeddingSpec:
    places = {"coloured": Depth(grid=8, dimensions=4)}
    return EmbeddingSpec(framing=Framing(side=SIDE), views=views, frame=3, places=places, logits=4)


def encoder_of(name: str) -> Encoder:
    if name == "oddly halved":
        return random_encoder(ODDLY_HALVED, side=ODD_SIDE)
    if name != "default":
        return random_encoder({"transformer": HALVED_TRANSFORMER, "whole frames": WHOLE}[name])
    torch.manual_seed(0)
    encoder = create_encoder(Architecture(hidden=16), SIDE, "package")
    fit_bases(encoder, [random_frames(8, seed=100)])
    return encoder


@cache  # an export takes seconds
def graph_of(name: str, precision: GraphPrecision) -> onnx.ModelProto:
    encoder = encoder_of(name)
    spec = encoder.spec(Framing(side=encoder.side), 4)
    return onnx.shape_inference.infer_shapes(to_onnx(FrameGraph(encoder, spec, precision), spec), strict_mode=True)


@pytest.fixture(params=[(name, precision) for name in ENCODERS for precision in PRECISIONS], ids="-".join)
def graph(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return graph_of(*request.param)


def graph_of_blocks(views: Views) -> onnx.ModelProto:
    spec = spec_of_blocks(views)
    return to_onnx(FrameGraph(Blocks(), spec, "float32"), spec)  # type: ignore[arg-type]


def by_onnxruntime(model: Any, frames: npt.NDArray[np.uint8]) -> Embeddings:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"frames": frames}), strict=True))


def by_openvino(model: Any, frames: npt.NDArray[np.uint8]) -> Embeddings:
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([frames])
    return {output.get_any_name(): found[number] for number, output in enumerate(compiled.outputs)}


RUNTIMES = {"onnxruntime": by_onnxruntime, "openvino": by_openvino}


def difference(found: Embeddings, wanted: Embeddings) -> float:
    """The largest over the outputs of: the root mean square error relative to the spread over frames and views."""
    assert found.keys() == wanted.keys()
    errors = []
    for name, values in wanted.items():
        assert found[name].shape == values.shape
        assert found[name].dtype == np.float32
        errors.append(np.sqrt(np.square(found[name] - values).mean()) / values.std(axis=(0, 1)).mean())
    return float(max(errors))


@pytest.mark.parametrize("views", [1, 2, 4, 8])
def test_the_graph_turns_frames_and_turns_grids_back(views: Views) -> None:
    """What is seen in a view, and where in the view it is, comes at the place of the upright frame it belongs to."""
    spec, frames = spec_of_blocks(views), random_frames(2)
    wanted: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in spec.outputs}
    for frame in frames:
        for view, turned in enumerate(views_of(frame, views)):
            places = np.empty((8, 8, 4))
            places[..., 0] = np.linspace(-1, 1, 64).reshape(8, 8)
            places[..., 1:] = ((turned - np.array([64, 96, 128])) / 32).reshape(8, 8, 8, 8, 3).mean(axis=(1, 3))
            colour = places[..., 1:].mean(axis=(0, 1))
            wanted["frame"].append(colour / np.linalg.norm(colour))
            wanted["places.coloured"].append(turned_back(places.reshape(64, 4), view))
            halves = places[..., 0].reshape(4, 2, 4, 2).mean(axis=(1, 3))
            wanted["logits"].append(turned_back(halves.ravel(), view))
    model = graph_of_blocks(views).SerializeToString()
    for run in RUNTIMES.values():
        found = run(model, frames)
        assert list(found) == list(spec.outputs)
        for name, shape in spec.outputs.items():
            np.testing.assert_allclose(found[name], np.reshape(wanted[name], (2, *shape)), atol=1e-5, err_msg=name)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ENCODERS)
def test_runtimes_give_the_embeddings_of_the_definition(name: str, precision: GraphPrecision) -> None:
    encoder = encoder_of(name)
    model, frames = graph_of(name, precision).SerializeToString(), random_frames(3, seed=7, side=encoder.side)
    wanted = oracle(encoder, frames, 4)
    least, most = (0, 1e-4) if precision == "float32" else (1e-5, 0.05)  # close, and yet not computed in float32
    runs = RUNTIMES if precision == "float32" else {"onnxruntime": by_onnxruntime}  # OpenVINO serves float32 graphs
    for runtime, run in runs.items():
        found = run(model, frames)
        assert least < difference(found, wanted) < most, runtime
        assert difference({name: values[::-1] for name, values in found.items()}, wanted) > 0.5, "frames are told apart"
        np.testing.assert_allclose(np.linalg.norm(found["frame"], axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "halved"),
    [
        ("default", {"deep": ("blocks.4", "blocks.5")}),
        ("oddly halved", {"only": ("blocks.1", "blocks.2", "blocks.3", "blocks.4")}),
        ("transformer", {"deep": ("blocks.1", "blocks.5")}),
        ("whole frames", {}),
    ],
)
def test_graphs_see_halved_frames_where_a_depth_takes_them(name: str, halved: dict[str, tuple[str, ...]]) -> None:
    """By the same weights: it is no second network."""
    depths = encoder_of(name).depths
    assert {one: depth.halved for one, depth in depths.items() if depth.halved} == halved
    graph = graph_of(name, "float32").graph
    uses = Counter(node.input[1] for node in graph.node if node.op_type == "Conv" and ".backbone." in node.input[1])
    assert set(uses.values()) <= ({1, 2} if halved else {1})
    assert (2 in uses.values()) == bool(halved)


@pytest.mark.parametrize("views", [None, 1])
def test_an_exporter_says_what_its_graphs_give(tmp_path: Any, views: Literal[1] | None) -> None:
    model = save_random_model(tmp_path / "model", views=2)
    exporter = Exporter(model, views)
    assert exporter.spec.views == (views or 2)
    assert exporter.spec.places == {
        "shallow": Depth(grid=4, dimensions=20),
        "middle": Depth(grid=4, dimensions=20),
        "deep": Depth(grid=2, dimensions=20),
    }
    assert (exporter.spec.frame, exporter.spec.logits) == (12, 8)
    frames = random_frames(2)
    golden = exporter.embed(frames)
    wanted = oracle(model, frames, exporter.spec.views)
    assert difference(golden, wanted) < 1e-4
    name = exporter.write_graph(tmp_path, "float32")
    written = (tmp_path / name).read_bytes()
    assert difference(by_onnxruntime(written, frames), golden) < 1e-4
    exporter.write_graph(tmp_path, "float32")
    assert (tmp_path / name).read_bytes() == written


def test_the_batch_is_free(graph: onnx.ModelProto) -> None:
    for value in (graph.graph.input[0], *graph.graph.output):
        batch, *others = value.type.tensor_type.shape.dim
        assert batch.dim_value == 0
        assert all(size.dim_value for size in others)
    frames = random_frames(3, side=graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value)
    together = by_onnxruntime(graph.SerializeToString(), frames)
    alone = by_onnxruntime(graph.SerializeToString(), frames[1:2])
    for name, values in together.items():
        np.testing.assert_allclose(alone[name][0], values[1], atol=2e-2, err_msg=name)


def test_only_the_cast_touches_uint8(graph: onnx.ModelProto) -> None:
    (frames,) = graph.graph.input
    assert frames.type.tensor_type.elem_type == TensorProto.UINT8
    assert [node.op_type for node in graph.graph.node if "frames" in node.input] == ["Cast"]
    assert TensorProto.UINT8 not in types_between(graph).values()


def test_graphs_stay_within_what_tensorrt_reads(graph: onnx.ModelProto) -> None:
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 18)]
    types = all_types(graph)
    for node in graph.graph.node:
        found = {types[name] for name in (*node.input, *node.output) if name}
        assert found <= TENSORRT_READS[node.op_type], f"{node.op_type} {node.name}"
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if node.op_type == "Resize":
            assert (attributes["mode"], attributes["coordinate_transformation_mode"]) == (b"linear", b"half_pixel")
            assert not attributes.get("antialias")
        if node.op_type == "Pad":
            assert attributes.get("mode", b"constant") == b"constant"
        if node.op_type in ("MaxPool", "AveragePool"):
            assert len(node.output) == 1
            assert len(attributes["kernel_shape"]) == 2


def test_a_node_gets_one_floating_type(graph: onnx.ModelProto) -> None:
    """A strongly typed network mixes none; the factors of Resize are float32 whatever it resizes."""
    types = all_types(graph)
    for node in graph.graph.node:
        given = node.input[:1] if node.op_type == "Resize" else node.input
        floats = {types[name] for name in given if name} & FLOATS
        assert len(floats) <= 1, f"{node.op_type} {node.name}"


@pytest.mark.parametrize("graph", [(name, "float16") for name in ENCODERS], ids="-".join, indirect=True)
def test_a_float16_graph_is_float16_but_for_the_lengths_of_outputs(graph: onnx.ModelProto) -> None:
    weights = {one.name: one.data_type for one in graph.graph.initializer if one.name.startswith("encoder")}
    assert weights
    assert set(weights.values()) == {TensorProto.FLOAT16}

    nodes, types = list(graph.graph.node), types_between(graph)
    casts = {node.output[0] for node in nodes if node.op_type == "Cast" and "frames" not in node.input}
    assert len(casts) == len(graph.graph.output), "one of each output"
    wide = set(casts)  # what comes of them
    for node in nodes:
        if wide & {*node.input}:
            wide |= {*node.output}
            assert node.op_type in {"ReduceL2", "Clip", "Div", "Reshape", "Transpose", "Gather"}
        found = {types[name] for name in node.output if name in types} & FLOATS
        assert found <= {TensorProto.FLOAT if wide & {*node.output} else TensorProto.FLOAT16}, node.name
    assert {output.name for output in graph.graph.output} <= wide


def test_a_graph_is_reproducible_and_names_no_file_of_this_machine() -> None:
    first, second = (graph_of_blocks(2).SerializeToString(deterministic=True) for _ in range(2))
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
