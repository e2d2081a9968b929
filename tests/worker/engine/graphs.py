"""Small engine folders whose graphs are written by hand, and an oracle for their embeddings; no torch in sight.

Each output is one convolution of the frame, scaled to -1..1: what it says of a place is a weighted sum of the pixels of
that place, with the weights turned back for each view, which is what a turned frame shows there. `frame` is brought to
unit length. Of the depths, two have the same shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from quarterturn.engine_build.golden import Golden
from quarterturn.engine_build.source import GraphPrecision, graph_name, view_graph_name
from quarterturn.worker.contract.embeddings import FRAME, Embeddings
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.manifest import (
    Depth,
    EmbeddingSpec,
    EngineManifest,
    TargetManifest,
    hash_files,
    write_manifest,
)

SIDE = 32
VIEWS = 4
SPEC = EmbeddingSpec(
    framing=Framing(side=SIDE),
    views=VIEWS,
    frame=12,
    places={
        "shallow": Depth(grid=4, dimensions=5),
        "middle": Depth(grid=4, dimensions=5),
        "deep": Depth(grid=2, dimensions=7),
    },
    logits=8,
)
SHAPES = {
    "frame": (4, 12),
    "places.shallow": (4, 16, 5),
    "places.middle": (4, 16, 5),
    "places.deep": (4, 4, 7),
    "logits": (4, 64),
}
"""The shape that one frame has in each output, in their order, written out."""


def grid_of(name: str) -> int:
    """Places along a side of the frame."""
    return {"frame": 1, "places.shallow": 4, "places.middle": 4, "places.deep": 2, "logits": 8}[name]


def weights(name: str) -> npt.NDArray[np.float64]:
    """(V, D, cell, cell, 3), float16 numbers: their rounding is no error of an engine's."""
    cell = SIDE // grid_of(name)
    dimensions = 1 if name == "logits" else SHAPES[name][-1]
    rng = np.random.default_rng(list(name.encode()))
    values = rng.normal(size=(dimensions, cell, cell, 3)) / (cell * np.sqrt(3))
    turned = np.stack([np.rot90(values, -quarters, axes=(1, 2)) for quarters in range(VIEWS)])
    return turned.astype(np.float16).astype(np.float64)


def oracle(frames: npt.NDArray[np.uint8]) -> Embeddings:
    """The embeddings of (B, S, S, 3) frames, in double precision."""
    return {name: _output(name, frames / 128 - 1).astype(np.float32) for name in SHAPES}


def _output(name: str, scaled: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    grid = grid_of(name)
    cells = scaled.reshape(-1, grid, SIDE // grid, grid, SIDE // grid, 3)
    found = np.einsum("bgihjc,vdijc->bvghd", cells, weights(name)).reshape(-1, *SHAPES[name])
    return found / np.sqrt((found**2).sum(axis=-1, keepdims=True)) if name == FRAME else found


def random_frames(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """(count, S, S, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def graph(
    precision: GraphPrecision = "float32", outputs: Sequence[str] = tuple(SHAPES), views: int = VIEWS
) -> onnx.ModelProto:
    """An ONNX graph that computes the outputs of the first views, in this order, in this type."""
    kind = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[precision]
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [
        helper.make_node("Cast", ["frames"], ["cast"], "cast", to=kind),
        helper.make_node("Transpose", ["cast"], ["planes"], "planes", perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"], "scaled"),
        helper.make_node("Sub", ["scaled", "one"], ["pictures"], "pictures"),
    ]
    constants = {"scale": np.array(1 / 128, dtype), "one": np.array(1, dtype), "last": np.array([-1])}
    for name in outputs:
        _, dimensions, cell, *_ = weights(name).shape
        kernels = weights(name)[:views].transpose(0, 1, 4, 2, 3).reshape(views * dimensions, 3, cell, cell)
        constants |= {
            f"{name}.weight": kernels.astype(dtype),
            f"{name}.split": np.array([-1, views, dimensions, grid_of(name) ** 2]),
            f"{name}.shape": np.array([-1, views, *SHAPES[name][1:]]),
        }
        nodes += _nodes(name, cell)
    inputs = [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["B", SIDE, SIDE, 3])]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", views, *SHAPES[name][1:]]) for name in outputs]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "by hand", inputs, made, tensors),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _nodes(name: str, cell: int) -> list[onnx.NodeProto]:
    """From the pictures to one output, float32 from the cast on."""
    made = f"_{name}"  # sorted before the output's own name, as an exporter's names often are
    kernels = {"kernel_shape": [cell, cell], "strides": [cell, cell]}
    nodes = [
        helper.make_node("Conv", ["pictures", f"{name}.weight"], [f"{made}.conv"], f"{name}.conv", **kernels),
        helper.make_node("Cast", [f"{made}.conv"], [f"{made}.wide"], f"{name}.wide", to=TensorProto.FLOAT),
        helper.make_node("Reshape", [f"{made}.wide", f"{name}.split"], [f"{made}.grids"], f"{name}.grids"),
        helper.make_node("Transpose", [f"{made}.grids"], [f"{made}.rows"], f"{name}.rows", perm=[0, 1, 3, 2]),
        helper.make_node("Reshape", [f"{made}.rows", f"{name}.shape"], [f"{made}.result"], f"{name}.result"),
    ]
    if name != FRAME:
        return [*nodes, helper.make_node("Identity", [f"{made}.result"], [name], name)]
    return [
        *nodes,
        helper.make_node("ReduceL2", [f"{made}.result", "last"], [f"{made}.length"], f"{name}.length"),
        helper.make_node("Div", [f"{made}.result", f"{made}.length"], [name], name),
    ]


def graph_of(target: str, precision: GraphPrecision) -> tuple[str, int]:
    """The name of the graph that a target takes, and of how many views it is."""
    return (view_graph_name(VIEWS), 1) if target == "openvino" else (graph_name(precision), VIEWS)


def write_engine(
    folder: Path,
    precision: GraphPrecision = "float32",
    targets: Sequence[str] = ("openvino", "onnxruntime"),
    outputs: Sequence[str] = tuple(SHAPES),
    spec: EmbeddingSpec = SPEC,
) -> Path:
    """An engine folder with the graphs for these targets, as the builder would write it; returns it."""
    folder.mkdir()
    frames = random_frames(2)
    for name, views in {graph_of(target, precision) for target in targets}:
        (folder / name).write_bytes(graph(precision, outputs, views).SerializeToString())
    Golden(frames, oracle(frames)).save(folder)
    manifest = EngineManifest(
        spec=spec,
        model="0" * 64,
        products=("ring", "nut"),
        holdout=0.25,
        targets={
            target: TargetManifest(precision=precision, files=(graph_of(target, precision)[0],), parity=1)
            for target in targets
        },
        files=hash_files(folder, [path.name for path in folder.iterdir()]),
        created_at="2026-01-01T00:00:00+00:00",
    )
    write_manifest(folder, manifest)
    return folder
