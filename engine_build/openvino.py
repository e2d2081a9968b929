"""The OpenVINO target: the float32 graph of one view as it is.

OpenVINO's own file format loads a hundredth of a second sooner and runs no faster (docs/engines.md), so there is
nothing to compile; in which type it computes is a setting of the engine.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from quarterturn.engine_build.source import Source
from quarterturn.engine_build.target import TargetFiles
from quarterturn.worker.contract.manifest import Precision
from quarterturn.worker.engine.base import EngineFolder
from quarterturn.worker.engine.openvino import OpenVinoEngine, available_threads, native_precision


def fastest() -> Precision:
    """What OpenVINO itself would take on this CPU."""
    return native_precision()


def write(source: Source, folder: Path, precision: Precision) -> TargetFiles:
    """Put the graph into `folder`. Threads with a view each do not wait for each other, as they do within one."""
    graph = source.write_view_graph(folder)
    return TargetFiles((graph,), {"openvino": version("openvino")}, streams=(1, available_threads()))


def open_engine(folder: EngineFolder) -> OpenVinoEngine:
    """The engine as the worker opens it."""
    return OpenVinoEngine(folder)
