"""From a trained model to ONNX graphs; the only file of the builder that imports the trainer.

A graph does everything of a frame: uint8 (B, S, S, 3) RGB in, (B, V, P, D) float32 embeddings of unit length out.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn

from engine_build.source import GraphPrecision, graph_name
from trainer.checkpoint import WEIGHTS, load_model
from trainer.encoder import Encoder, embed_views, normalise, normalise_each
from worker.contract.manifest import EmbeddingSpec
from worker.contract.views import place_order, turn

_OPSET = 18  # the newest that every TensorRT in use reads
_DTYPES = {"float32": torch.float32, "float16": torch.float16}


class FrameGraph(nn.Module):
    """Cast, normalise, turn into the views, encode, turn back, bring to unit length: what an engine computes.

    The encoder is of type `precision`; statistics of a frame and lengths of vectors are taken in float32.
    """

    pixels: Tensor
    scale: Tensor
    shift: Tensor
    places: Tensor

    def __init__(self, encoder: Encoder, side: int, views: int, precision: GraphPrecision) -> None:
        super().__init__()
        self.side = side
        self.views = views
        self.local = encoder.architecture.local
        self.positions = encoder.architecture.positions(side)
        self.encoder = copy.deepcopy(encoder)
        # One gather makes all views; its indices are the contract's own turns of the grid of pixel numbers.
        grid = np.arange(side * side).reshape(side, side)
        self.register_buffer("pixels", torch.from_numpy(np.concatenate([turn(grid, v).ravel() for v in range(views)])))
        # `normalise` is affine, so what it makes of black and of white says all of it.
        black, white = normalise(torch.tensor([0.0, 255.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1))
        self.register_buffer("scale", (white - black) / 255)
        self.register_buffer("shift", black)
        # And one gather turns the grids back.
        back = place_order(views, self.positions) + self.positions * np.arange(views)[:, None]
        self.register_buffer("places", torch.from_numpy(back.ravel()))
        self.to(_DTYPES[precision]).eval()

    def forward(self, frames: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 -> (B, V, P, D) float32."""
        # Cast first, because TensorRT takes uint8 nowhere else.
        if self.local:
            pictures = self._turn(normalise_each(frames.float()).to(self.scale.dtype))
        else:  # normalise after the turns, where it is fused with them
            pictures = self._turn(frames.to(self.scale.dtype)) * self.scale + self.shift
        vectors: Tensor = self.encoder(pictures).float()
        lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp_min(1e-12)
        embeddings: Tensor = vectors / lengths
        dimensions = embeddings.shape[-1]
        if self.positions > 1:
            embeddings = embeddings.reshape(-1, self.views * self.positions, dimensions).index_select(1, self.places)
        return embeddings.reshape(-1, self.views, self.positions, dimensions)

    def _turn(self, frames: Tensor) -> Tensor:
        """(B, S, S, 3) -> (B · V, 3, S, S), the views of a frame one after the other."""
        turned = frames.reshape(-1, self.side**2, 3).index_select(1, self.pixels)
        return turned.reshape(-1, self.side, self.side, 3).permute(0, 3, 1, 2)


class Exporter:
    """A trained model with V views (None: as many as it was trained for): its reference embeddings and its graphs.

    Raises:
        DataError: the model folder, its manifest or its weights are missing or damaged.
        MismatchError: the weights are not those that the manifest lists.
    """

    def __init__(self, folder: Path, views: Literal[1, 2, 4, 8] | None = None) -> None:
        self.encoder, self.manifest = load_model(folder)
        architecture = self.encoder.architecture
        self.spec = EmbeddingSpec(
            framing=self.manifest.framing,
            views=views or self.manifest.views,
            positions=architecture.positions(self.manifest.framing.side),
            dimensions=architecture.dimensions,
            learned=architecture.local,
        )

    @property
    def model_hash(self) -> str:
        """The SHA-256 of the model's weights."""
        return self.manifest.files[WEIGHTS]

    def embed(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(B, S, S, 3) uint8 -> (B, V, P, D) float32: what every engine must reproduce."""
        return np.concatenate([embed_views(self.encoder, frame[None], self.spec.views) for frame in frames])

    def write_graph(self, folder: Path, precision: GraphPrecision) -> str:
        """Write the ONNX graph to `folder`, unless another target did; returns the file's name."""
        name = graph_name(precision)
        if not (folder / name).exists():
            graph = FrameGraph(self.encoder, self.spec.side, self.spec.views, precision)
            (folder / name).write_bytes(to_onnx(graph, self.spec.side).SerializeToString(deterministic=True))
        return name


def to_onnx(graph: nn.Module, side: int) -> onnx.ModelProto:
    """`graph`, from `frames` (B, side, side, 3) uint8 to `embeddings`, as a checked ONNX model for any batch size."""
    with _quiet_exporter():
        program = torch.onnx.export(
            graph,
            (torch.zeros(2, side, side, 3, dtype=torch.uint8),),
            dynamo=True,
            opset_version=_OPSET,
            input_names=["frames"],
            output_names=["embeddings"],
            dynamic_shapes=({0: torch.export.Dim("B")},),
            verbose=False,
        )
    assert program is not None
    ClearMetadataAndDocStringPass()(program.model)  # it holds stack traces with this machine's paths
    model = program.model_proto
    onnx.checker.check_model(model, full_check=True)
    return model


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
