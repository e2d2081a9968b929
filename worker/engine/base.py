"""What every engine offers, and how an engine folder is opened and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.errors import DataError, MismatchError
from quarterturn.worker.contract.manifest import EmbeddingSpec, EngineManifest, read_manifest, verify_files

Tensors = dict[str, tuple[str, tuple[int, ...]]]
"""A graph's inputs and outputs: name -> (dtype, shape); -1 is the batch."""

_RUN_PIXELS = 8 * 256**2  # of all frames and views in one run: larger runs leave the caches, and are slower


class Engine(Protocol):
    """Turns frames into embeddings. Not thread-safe: one thread calls `embed` at a time."""

    spec: EmbeddingSpec
    hash: str
    target: str

    def embed(self, frames: npt.NDArray[np.uint8]) -> Embeddings:
        """(B, S, S, 3) uint8 RGB -> all of `spec.outputs`, in that order, float32 (B, ...): copies the caller keeps.

        B = 0 gives empty arrays of these shapes.

        Raises:
            ValueError: the frames have another shape or dtype.
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


def check_tensors(found: Tensors, folder: EngineFolder, spec: EmbeddingSpec | None = None) -> None:
    """Refuse a graph whose inputs and outputs are not those that the manifest describes, or `spec` in its stead.

    Raises:
        MismatchError: names each that differs, as the graph has it and as the manifest says.
    """
    spec = spec or folder.manifest.spec
    wanted: Tensors = {"frames": ("uint8", (-1, spec.side, spec.side, 3))}
    wanted |= {name: ("float32", (-1, *shape)) for name, shape in spec.outputs.items()}
    different = [
        f"{name} is {_text(found.get(name))} in the graph, {_text(wanted.get(name))} in the manifest"
        for name in dict.fromkeys((*wanted, *found))
        if found.get(name) != wanted.get(name)
    ]
    if different:
        raise MismatchError(
            f"{folder.files[0]}: the graph does not fit the manifest: {', '.join(different)}; build the engine again"
        )


def empty_embeddings(count: int, spec: EmbeddingSpec) -> Embeddings:
    """Arrays for the embeddings of `count` frames, to be filled by `put`."""
    return {name: np.empty((count, *shape), np.float32) for name, shape in spec.outputs.items()}


def put(embeddings: Embeddings, part: slice, found: Embeddings) -> None:
    """Copy what was found for a part of the frames to its place."""
    for name, values in embeddings.items():
        values[part] = found[name]


def embed_in_runs(
    frames: npt.NDArray[np.uint8],
    spec: EmbeddingSpec,
    run: Callable[[npt.NDArray[np.uint8]], Embeddings],
) -> Embeddings:
    """Check `frames` and embed them by as many calls of `run` as memory and caches like; what `run` returns is copied.

    Raises:
        ValueError: the frames have another shape or dtype.
    """
    check_frames(frames, spec)
    embeddings = empty_embeddings(len(frames), spec)
    step = max(1, _RUN_PIXELS // (spec.views * spec.side**2))
    for start in range(0, len(frames), step):
        part = slice(start, start + step)
        put(embeddings, part, run(frames[part]))
    return embeddings


def _text(tensor: tuple[str, tuple[int, ...]] | None) -> str:
    return "missing" if tensor is None else f"{tensor[0]} {tensor[1]}"
