"""What every engine offers, and how an engine folder is opened and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from worker.contract.errors import DataError
from worker.contract.manifest import EmbeddingSpec, EngineManifest, read_manifest, verify_files


class Engine(Protocol):
    """Turns frames into embeddings. Not thread-safe: one thread calls `embed` at a time."""

    spec: EmbeddingSpec
    hash: str
    target: str

    def embed(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(B, S, S, 3) uint8 RGB -> (B, V, P, D) float32 of unit length, a copy that the caller keeps.

        Raises:
            ValueError: the frames have another shape or dtype; B = 0 gives an empty result.
        """
        ...

    def close(self) -> None:
        """Free the runtime's memory; the engine cannot be used afterwards. May be called twice."""
        ...


@dataclass(frozen=True)
class EngineFolder:
    """An engine folder whose manifest was read and whose files for one target were verified."""

    path: Path
    manifest: EngineManifest
    target: str

    @property
    def hash(self) -> str:
        """What a bank is bound to."""
        return self.manifest.engine_hash(self.target)

    @property
    def files(self) -> list[Path]:
        """The target's files; the first is the one that its runtime loads."""
        return [self.path / name for name in self.manifest.targets[self.target].files]


def open_folder(path: Path, target: str) -> EngineFolder:
    """Read and verify the engine folder at `path` for `target` (a name such as "openvino").

    Raises:
        DataError: the folder, its manifest, a file or the target is missing.
        MismatchError: a file was changed since the engine was built.
    """
    manifest = read_manifest(path, EngineManifest, "quarterturn build")
    if target not in manifest.targets:
        raise DataError(
            f"{path}: has no target '{target}', only {', '.join(sorted(manifest.targets))}; "
            f"build it with 'quarterturn build --set targets=[{target}]'"
        )
    verify_files(path, manifest.files, manifest.targets[target].files)
    return EngineFolder(path, manifest, target)


def check_frames(frames: npt.NDArray[np.uint8], spec: EmbeddingSpec) -> None:
    """Refuse frames of the wrong shape or dtype before a runtime does so less clearly.

    Raises:
        ValueError: names what is wanted and what came.
    """
    wanted = (spec.side, spec.side, 3)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != wanted:
        raise ValueError(f"frames must be uint8 (B, {spec.side}, {spec.side}, 3), not {frames.dtype} {frames.shape}")
