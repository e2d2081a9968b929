from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quarterturn.worker.contract.arrays import Frames
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.learning.cache import RememberingEngine
from tests.parts import NumpyPlacesEngine, good_part


class Counting(NumpyPlacesEngine):
    """Counts what it is asked for; what it says depends on the batch, in the last bits, as that of a real one may."""

    asked = 0

    def embed(self, frames: Frames) -> Embeddings:
        self.asked += len(frames)
        return {name: one * np.float32(1 + 1e-6 * len(frames)) for name, one in super().embed(frames).items()}


def frames(count: int, seed: int = 0) -> Frames:
    rng = np.random.default_rng(seed)
    return np.stack([good_part(rng) for _ in range(count)])


def test_a_frame_is_embedded_once_in_whatever_company(tmp_path: Path) -> None:
    engine = Counting(logits=True)
    first = RememberingEngine(engine, tmp_path)
    alone = [first.embed(one[np.newaxis]) for one in frames(5)]
    again = RememberingEngine(engine, tmp_path)
    together = again.embed(frames(7))
    assert (first.embedded, again.remembered, again.embedded, engine.asked) == (5, 5, 2, 7)
    assert list(together) == list(engine.spec.outputs)
    for name, values in together.items():
        assert values.dtype == np.float32
        assert values.shape == (7, *engine.spec.outputs[name])
        assert all((values[n] == alone[n][name][0]).all() for n in range(5)), name
    assert again.embed(frames(1)[:0])["frame"].shape == (0, *engine.spec.outputs["frame"])


@pytest.mark.parametrize("change", ["another engine", "another pixel"])
def test_what_another_engine_said_or_of_another_picture_does_not_count(tmp_path: Path, change: str) -> None:
    RememberingEngine(Counting(), tmp_path).embed(frames(1))
    other = Counting(name="another" if change == "another engine" else "numpy-places-engine")
    asked = frames(1)
    if change == "another pixel":
        asked[0, 3, 3, 1] ^= 1
    remembering = RememberingEngine(other, tmp_path)
    remembering.embed(asked)
    assert (remembering.embedded, remembering.remembered) == (1, 0)


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: bytes | None) -> None:
    expected = RememberingEngine(Counting(), tmp_path).embed(frames(1))
    (path,) = tmp_path.rglob("*.npy")
    path.write_bytes(path.read_bytes()[:-8] if damage is None else damage)
    again = RememberingEngine(Counting(), tmp_path)
    assert (again.embed(frames(1))["frame"] == expected["frame"]).all()
    assert again.embedded == 1


def test_what_is_not_used_is_forgotten_and_the_size_is_told(tmp_path: Path) -> None:
    RememberingEngine(Counting(), tmp_path).embed(frames(6))
    RememberingEngine(Counting(name="older"), tmp_path).embed(frames(6))
    now = RememberingEngine(Counting(), tmp_path)
    now.embed(frames(2))
    size = now.forget_unused()
    left = list(tmp_path.rglob("*.npy"))
    assert len(left) == 2
    assert size == sum(path.stat().st_size for path in left)
    numbers = sum(int(np.prod(shape)) for shape in now.spec.outputs.values())
    assert 4 * numbers * 2 <= size <= 4 * numbers * 2 + 2 * 128


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot be written .*set 'learned' to another folder"):
        RememberingEngine(Counting(), tmp_path / "file" / "below")
