from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from engine_build.golden import Golden, check, render_frames
from worker.contract.errors import MismatchError
from worker.contract.manifest import EmbeddingSpec

FRAMES, VIEWS, DIMENSIONS = 6, 4, 16
Array = npt.NDArray[np.float32]


class Replay:
    """An engine that gives prepared embeddings."""

    spec = EmbeddingSpec(side=8, views=VIEWS, positions=1, dimensions=DIMENSIONS)
    hash = "0" * 64
    target = "openvino"

    def __init__(self, embeddings: Array) -> None:
        self.embeddings = embeddings

    def embed(self, frames: npt.NDArray[np.uint8]) -> Array:
        return self.embeddings

    def close(self) -> None:
        pass


def unit(vectors: npt.NDArray[Any]) -> Array:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


@pytest.fixture
def golden() -> Golden:
    half = np.random.default_rng(3).normal(size=(FRAMES // 2, VIEWS, 1, DIMENSIONS))
    vectors = np.concatenate([half, -half])  # their mean is 0, so they fill the sphere
    return Golden(render_frames(8, FRAMES), unit(vectors))


def turned_by(angle: float, embeddings: Array) -> Array:
    """Unit vectors at this angle, in radians, to the given ones."""
    noise = np.random.default_rng(4).normal(size=embeddings.shape)
    across = unit(noise - np.sum(noise * embeddings, axis=-1, keepdims=True) * embeddings)
    return np.asarray(np.cos(angle) * embeddings + np.sin(angle) * across, np.float32)


@pytest.mark.parametrize(("precision", "needed"), [("float32", 0.9999), ("float16", 0.999), ("bfloat16", 0.999)])
def test_the_smallest_cosine_decides(golden: Golden, precision: str, needed: float) -> None:
    for margin in (0.98, 1.02):
        embeddings = golden.embeddings.copy()
        embeddings[2, 1] = turned_by(np.arccos(needed) * margin, golden.embeddings)[2, 1]
        if margin < 1:
            found = check(Replay(embeddings), golden, precision)  # type: ignore[arg-type]
            assert found == pytest.approx(np.cos(np.arccos(needed) * margin), abs=1e-6)
        else:
            text = rf"^target 'openvino' \({precision}\): .* the model's, cosine 0\.99\d+ found and {needed} needed; "
            with pytest.raises(MismatchError, match=text):
                check(Replay(embeddings), golden, precision)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [np.nan, 0.0, 1.1])
def test_embeddings_of_wrong_length_are_refused(golden: Golden, wrong: float) -> None:
    with pytest.raises(MismatchError, match=r"needed; no engine was written"):
        check(Replay(golden.embeddings * np.float32(wrong)), golden, "float32")


@pytest.mark.parametrize("spread", [0.5, 0.1, 0.01])
def test_confused_views_are_refused_even_where_all_embeddings_are_alike(golden: Golden, spread: float) -> None:
    crowded = unit(golden.embeddings[:1, :1] / spread + golden.embeddings)
    swapped = crowded.copy()
    swapped[3, [1, 2]] = crowded[3, [2, 1]]
    alike = Golden(golden.frames, crowded)
    assert check(Replay(crowded), alike, "float32") == 1
    with pytest.raises(MismatchError):
        check(Replay(swapped), alike, "bfloat16")


def test_golden_frames_may_repeat(golden: Golden) -> None:
    twice = Golden(golden.frames.repeat(2, axis=0), golden.embeddings.repeat(2, axis=0))
    noise = np.random.default_rng(6).normal(0, 1e-5, twice.embeddings.shape).astype(np.float32)
    assert check(Replay(twice.embeddings + noise), twice, "float32") > 0.9999


def test_rendered_frames_are_the_same_every_time_and_differ_in_every_view() -> None:
    frames = render_frames(32, 8)
    assert frames.shape == (8, 32, 32, 3)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, render_frames(32, 8))
    looks = [np.rot90(side, turns).astype(float) for f in frames for side in (f, np.fliplr(f)) for turns in range(4)]
    differences = [np.abs(a - b).mean() for i, a in enumerate(looks) for b in looks[:i]]
    assert min(differences) > 10


def test_golden_frames_are_saved_with_their_embeddings(golden: Golden, tmp_path: Path) -> None:
    golden.save(tmp_path)
    saved = safetensors.numpy.load_file(tmp_path / "golden.safetensors")
    np.testing.assert_array_equal(saved["frames"], golden.frames)
    np.testing.assert_array_equal(saved["embeddings"], golden.embeddings)
