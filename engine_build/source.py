"""Where an engine's graphs come from: a trained model (`engine_build.export`), or an engine folder that holds them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal, Protocol

from quarterturn.engine_build.golden import GOLDEN, Golden
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.manifest import (
    MANIFEST,
    EmbeddingSpec,
    EngineManifest,
    ModelManifest,
    read_manifest,
    verify_files,
)

GraphPrecision = Literal["float32", "float16"]


def graph_name(precision: GraphPrecision) -> str:
    """The file name of the graph of that type in an engine folder."""
    return f"model.{precision}.onnx"


def view_graph_name(views: int) -> str:
    """The file name of the float32 graph of one view; where there is only one, that is the graph."""
    return "view.float32.onnx" if views > 1 else graph_name("float32")


class Source(Protocol):
    """What every target is built from."""

    @property
    def spec(self) -> EmbeddingSpec:
        """What the embeddings mean."""
        ...

    @property
    def manifest(self) -> ModelManifest | EngineManifest:
        """Says which products the model knows, and which share of the pictures it never saw."""
        ...

    @property
    def model_hash(self) -> str:
        """The SHA-256 of the model's weights."""
        ...

    def write_graph(self, folder: Path, precision: GraphPrecision) -> str:
        """Write the ONNX graph to `folder`, unless another target did; returns the file's name."""
        ...

    def write_view_graph(self, folder: Path) -> str:
        """The same of the graph of one view, the frame not turned, in float32."""
        ...


class ExportedGraphs:
    """The graphs and golden frames of an engine folder: no torch is needed to build from them.

    Raises:
        DataError: the folder, its manifest or a file is missing or damaged.
        MismatchError: a file was changed since it was exported.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.manifest = read_manifest(folder, EngineManifest, "quarterturn build")
        self.spec = self.manifest.spec
        verify_files(folder, self.manifest.files, [GOLDEN])
        self.golden = Golden.load(folder)

    @property
    def model_hash(self) -> str:
        """The SHA-256 of the weights of the model that was exported."""
        return self.manifest.model

    def write_graph(self, folder: Path, precision: GraphPrecision) -> str:
        """Copy the graph to `folder`, unless another target did; returns the file's name.

        Raises:
            DataError: the folder holds no graph of this type.
        """
        return self._copy(
            graph_name(precision), folder, precision, f"onnxruntime --set precision.onnxruntime={precision}"
        )

    def write_view_graph(self, folder: Path) -> str:
        """The same of the graph of one view."""
        return self._copy(view_graph_name(self.spec.views), folder, "one-view", "openvino")

    def _copy(self, name: str, folder: Path, kind: str, target: str) -> str:
        if name not in self.manifest.files:
            raise DataError(
                f"{self._folder}: holds no {kind} graph; export one where torch is installed with "
                f"'quarterturn build --target {target}'"
            )
        verify_files(self._folder, self.manifest.files, [name])
        if not (folder / name).exists():
            shutil.copyfile(self._folder / name, folder / name)
        return name


def is_engine(folder: Path) -> bool:
    """Whether `folder` is an engine folder; what is damaged or missing is none."""
    try:
        document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("kind") == EngineManifest.model_fields["kind"].default
