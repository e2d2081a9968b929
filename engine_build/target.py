"""What every target of the engine builder offers; `openvino` and `onnxruntime` are modules of this form."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from engine_build.export import Exporter
from worker.contract.manifest import Precision
from worker.engine.base import Engine, EngineFolder


@dataclass(frozen=True)
class TargetFiles:
    """What one target put into the engine folder: file names in it, the one to load first, and facts to record."""

    files: tuple[str, ...]
    details: dict[str, Any] = field(default_factory=dict)


class Target(Protocol):
    """One runtime that engines are built for."""

    def fastest(self) -> Precision:
        """The type in which the runtime computes fastest on this machine."""
        ...

    def write(self, exporter: Exporter, folder: Path, precision: Precision) -> TargetFiles:
        """Put into `folder` what the runtime loads."""
        ...

    def open_engine(self, folder: EngineFolder) -> Engine:
        """The engine as the worker opens it."""
        ...
