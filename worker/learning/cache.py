"""An engine that remembers on disk what it said of a frame, so that a refit embeds only what is new."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quarterturn.worker.contract.arrays import Array, Frames
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.swap import writing
from quarterturn.worker.engine.base import Engine, check_frames, empty_embeddings

_KEY_BYTES = 16


class RememberingEngine:
    """`engine`, with a file for each frame that it embedded: its outputs, one after the other, as float32.

    The file's name is the hash of the frame's pixels, so of the picture, the region and the bit depth; its folder's is
    the engine's hash. Each frame is embedded alone: what an engine says in the last bits may depend on the others of a
    batch, and a refit with the cache must give the same bank as one without. One thread calls it, as any engine.

    Attributes:
        remembered, embedded: how many frames were found in the cache, and not.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.spec, self.hash, self.target = engine.spec, engine.hash, engine.target
        self.remembered = self.embedded = 0
        self._engine, self._root = engine, folder
        self._folder = folder / engine.hash[:_KEY_BYTES]
        self._numbers = [int(np.prod(shape)) for shape in engine.spec.outputs.values()]
        self._used: set[str] = set()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{folder}: cannot be written ({error.strerror}); set 'learned' to another folder"
            ) from error

    def embed(self, frames: Frames) -> Embeddings:
        """See Engine.

        Raises:
            DataError: the cache cannot be written.
        """
        check_frames(frames, self.spec)
        embeddings = empty_embeddings(len(frames), self.spec)
        for index, frame in enumerate(frames):
            row = self._row(np.ascontiguousarray(frame))
            parts = np.split(row, np.cumsum(self._numbers)[:-1])
            for (name, shape), part in zip(self.spec.outputs.items(), parts, strict=True):
                embeddings[name][index] = part.reshape(shape)
        return embeddings

    def close(self) -> None:
        """See Engine."""
        self._engine.close()

    def forget_unused(self) -> int:
        """Delete what was not asked for since this object was made, or is of another engine; the bytes that stay."""
        stay = 0
        for path in self._root.rglob("*.npy"):
            if path.parent == self._folder and path.stem in self._used:
                stay += path.stat().st_size
            else:
                path.unlink(missing_ok=True)
        return stay

    def _row(self, frame: Frames) -> Array:
        key = hashlib.blake2b(frame.data, digest_size=_KEY_BYTES).hexdigest()
        self._used.add(key)
        path = self._folder / f"{key}.npy"
        if (row := _read(path, sum(self._numbers))) is not None:
            self.remembered += 1
            return row
        self.embedded += 1
        row = _joined(list(self._engine.embed(frame[np.newaxis]).values()))
        _write(path, row)
        return row


def _joined(outputs: Sequence[Array]) -> Array:
    return np.concatenate([one.ravel() for one in outputs])


def _read(path: Path, numbers: int) -> Array | None:
    """What the file holds; None where there is none, or not all of it."""
    try:
        row = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return row if row.shape == (numbers,) and row.dtype == np.float32 else None


def _write(path: Path, row: Array) -> None:
    """Whole or not at all."""
    try:
        with writing(path) as aside, aside.open("wb") as file:
            np.save(file, row, allow_pickle=False)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); make room, or set 'learned' elsewhere"
        ) from error
