"""What every target of the engine builder offers: a module such as `openvino`, or an object with settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from quarterturn.engine_build.source import Source
from quarterturn.worker.contract.manifest import Precision
from quarterturn.worker.engine.base import Engine, EngineFolder


@dataclass(frozen=True)
class TargetFiles:
    """What one target put into the engine folder: file names in it, the one to load first, and facts to record.

    `streams` are the numbers of frames or views side by side of which one may be the fastest on this machine.
    """

    files: tuple[str, ...]
    details: dict[str, Any] = field(default_factory=dict)
    streams: tuple[int, ...] = (1,)


class Target(Protocol):
    """One runtime that engines are built for."""

    def fastest(self) -> Precision:
        """The type in which the runtime computes fastest on this machine."""
        ...

    def write(self, source: Source, folder: Path, precision: Precision) -> TargetFiles:
        """Put into `folder` what the runtime loads."""
        ...

    def open_engine(self, folder: EngineFolder) -> Engine:
        """The engine as the worker opens it."""
        ...
