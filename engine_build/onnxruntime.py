"""The ONNX Runtime target: the graph of the wanted type as it is.

ONNX Runtime could save the graph that it optimised, but for this kind of CPU only.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from quarterturn.engine_build.source import Source
from quarterturn.engine_build.target import TargetFiles
from quarterturn.worker.contract.manifest import Precision
from quarterturn.worker.engine.base import EngineFolder
from quarterturn.worker.engine.onnxruntime import OnnxRuntimeEngine


def fastest() -> Precision:
    """On a CPU it computes float16 graphs by converting to float32 and back."""
    return "float32"


def write(source: Source, folder: Path, precision: Precision) -> TargetFiles:
    """Put the graph into `folder`."""
    graph = source.write_graph(folder, "float16" if precision == "float16" else "float32")
    return TargetFiles((graph,), {"onnxruntime": version("onnxruntime")})


def open_engine(folder: EngineFolder) -> OnnxRuntimeEngine:
    """The engine as the worker opens it."""
    return OnnxRuntimeEngine(folder)
