"""From a trained model to ONNX graphs; the only file of the builder that imports the trainer.

A graph does everything of a frame: uint8 (B, S, S, 3) RGB in, all embeddings of all views out, in float32.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn
from torch.nn import functional as F

from quarterturn.engine_build.source import GraphPrecision, graph_name, view_graph_name
from quarterturn.trainer.checkpoint import WEIGHTS, load_model
from quarterturn.trainer.encoder import Encoder, embed_views
from quarterturn.worker.contract.embeddings import FRAME, Embeddings, join
from quarterturn.worker.contract.manifest import EmbeddingSpec
from quarterturn.worker.contract.views import Views, place_order, turn

_OPSET = 18  # the newest that every TensorRT in use reads
_DTYPES = {"float32": torch.float32, "float16": torch.float16}


class FrameGraph(nn.Module):
    """Cast, normalise, turn into the views, encode, turn back: what an engine computes, of all outputs in `spec`.

    What is the same for all views is done before they are made. The encoder is of type `precision`; lengths of vectors
    are taken in float32.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, encoder: Encoder, spec: EmbeddingSpec, precision: GraphPrecision) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = copy.deepcopy(encoder)
        # One gather makes all views; its indices are the contract's own turns of the grid of pixel numbers.
        for side in (spec.side, spec.side // 2) if encoder.takes_halves else (spec.side,):
            grid = np.arange(side**2).reshape(side, side)
            turned = np.concatenate([turn(grid, view).ravel() for view in range(spec.views)])
            self.register_buffer(f"pixels_{side}", torch.from_numpy(turned))
        # `normalise` is affine, so what it makes of black and of white says all of it.
        black, white = encoder.normalise(torch.tensor([0.0, 255.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1))
        self.register_buffer("scale", ((white - black) / 255).flatten())
        self.register_buffer("shift", black.flatten())
        # And one gather turns the grids of an output back.
        for places in {shape[1] for name, shape in spec.outputs.items() if name != FRAME}:
            back = place_order(spec.views, places) + places * np.arange(spec.views)[:, None]
            self.register_buffer(f"back_{places}", torch.from_numpy(back.ravel()))
        self.to(_DTYPES[precision]).eval()

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """(B, S, S, 3) uint8 -> each output of `spec`, float32 (B, ...)."""
        pictures = frames.to(self.scale.dtype) * self.scale + self.shift
        smaller = (self._turn(_halved(pictures)),) if self.encoder.takes_halves else ()
        found = self.encoder(self._turn(pictures), *smaller)
        return tuple(self._arrange(found[name], name, shape) for name, shape in self.spec.outputs.items())

    def _turn(self, pictures: Tensor) -> Tensor:
        """(B, S, S, 3) -> (B · V, 3, S, S), the views of a frame one after the other."""
        side = pictures.shape[1]
        turned = pictures.reshape(-1, side**2, 3).index_select(1, self.get_buffer(f"pixels_{side}"))
        return turned.reshape(-1, side, side, 3).permute(0, 3, 1, 2)

    def _arrange(self, values: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
        """(B · V, ...) float32 -> (B, *shape): of unit length, or turned back."""
        if name == FRAME:
            lengths = torch.linalg.vector_norm(values, dim=-1, keepdim=True).clamp_min(1e-12)
            unit: Tensor = values / lengths
            return unit.reshape(-1, *shape)
        views, places, *rest = shape
        turned = values.reshape(-1, views * places, *rest)
        return turned.index_select(1, self.get_buffer(f"back_{places}")).reshape(-1, *shape)


def _halved(pictures: Tensor) -> Tensor:
    """(B, S, S, 3) -> (B, S/2, S/2, 3), the means of 2 x 2 pixels."""
    return F.avg_pool2d(pictures.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


class Exporter:
    """A trained model with V views (None: as many as it was trained for): its reference embeddings and its graphs.

    Raises:
        DataError: the model folder, its manifest or its weights are missing or damaged.
        MismatchError: the weights are not those that the manifest lists.
    """

    def __init__(self, folder: Path, views: Views | None = None) -> None:
        self.encoder, self.manifest = load_model(folder)
        self.spec = self.encoder.spec(self.manifest.framing, views or self.manifest.views)

    @property
    def model_hash(self) -> str:
        """The SHA-256 of the model's weights."""
        return self.manifest.files[WEIGHTS]

    def embed(self, frames: npt.NDArray[np.uint8]) -> Embeddings:
        """(B, S, S, 3) uint8 -> the embeddings that every engine must reproduce."""
        return join([embed_views(self.encoder, frame[None], self.spec.views) for frame in frames])

    def write_graph(self, folder: Path, precision: GraphPrecision) -> str:
        """Write the ONNX graph to `folder`, unless another target did; returns the file's name."""
        return self._write(folder / graph_name(precision), self.spec, precision)

    def write_view_graph(self, folder: Path) -> str:
        """The same of the graph of one view, in float32."""
        return self._write(folder / view_graph_name(self.spec.views), self.spec.of_one_view, "float32")

    def _write(self, path: Path, spec: EmbeddingSpec, precision: GraphPrecision) -> str:
        if not path.exists():
            graph = to_onnx(FrameGraph(self.encoder, spec, precision), spec)
            path.write_bytes(graph.SerializeToString(deterministic=True))
        return path.name


def to_onnx(graph: nn.Module, spec: EmbeddingSpec) -> onnx.ModelProto:
    """`graph`, from `frames` (B, S, S, 3) uint8 to the outputs of `spec`, as a checked ONNX model for any B."""
    with _quiet_exporter():
        program = torch.onnx.export(
            graph,
            (torch.zeros(2, spec.side, spec.side, 3, dtype=torch.uint8),),
            dynamo=True,
            opset_version=_OPSET,
            input_names=["frames"],
            output_names=list(spec.outputs),
            dynamic_shapes=({0: torch.export.Dim("B")},),
            verbose=False,
        )
    assert program is not None
    ClearMetadataAndDocStringPass()(program.model)  # it holds stack traces with this machine's paths
    model = program.model_proto
    _keep_uint8_for_the_cast(model.graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def _keep_uint8_for_the_cast(graph: onnx.GraphProto) -> None:
    """Read the batch's size, if a network asks for it, from the cast frames: TensorRT takes uint8 nowhere else."""
    (cast,) = (node for node in graph.node if node.op_type == "Cast" and "frames" in node.input)
    for node in graph.node:
        if node.op_type == "Shape" and "frames" in node.input:
            node.input[0] = cast.output[0]
    graph.node.remove(cast)
    graph.node.insert(0, cast)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter tells of each of its passes, and warns of its own deprecations and of torchvision, unused here."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
