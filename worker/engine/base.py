"""What every engine offers, and how an engine folder is opened and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from worker.contract.errors import DataError, MismatchError
from worker.contract.manifest import EmbeddingSpec, EngineManifest, read_manifest, verify_files

Tensors = dict[str, tuple[str, tuple[int, ...]]]
"""A graph's inputs and outputs: name -> (dtype, shape); -1 is the batch."""

_RUN_PICTURES = 16  # pictures (frames × views) in one run: as fast as larger runs, and memory stays bounded


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
            f"build it with 'quarterturn build --target {target}'"
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


def check_tensors(found: Tensors, folder: EngineFolder) -> None:
    """Refuse a graph that is not the one that the manifest describes.

    Raises:
        MismatchError: prints both.
    """
    spec = folder.manifest.spec
    wanted: Tensors = {
        "frames": ("uint8", (-1, spec.side, spec.side, 3)),
        "embeddings": ("float32", (-1, spec.views, spec.positions, spec.dimensions)),
    }
    if found != wanted:
        raise MismatchError(
            f"{folder.files[0]}: the graph has {found}, but the manifest says {wanted}; build the engine again"
        )


def embed_in_runs(
    frames: npt.NDArray[np.uint8],
    spec: EmbeddingSpec,
    run: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]],
) -> npt.NDArray[np.float32]:
    """Check `frames` and embed them by as many calls of `run` as memory and caches like; what `run` returns is copied.

    Raises:
        ValueError: the frames have another shape or dtype.
    """
    check_frames(frames, spec)
    embeddings = np.empty((len(frames), spec.views, spec.positions, spec.dimensions), np.float32)
    step = max(1, _RUN_PICTURES // spec.views)
    for start in range(0, len(frames), step):
        embeddings[start : start + step] = run(frames[start : start + step])
    return embeddings
