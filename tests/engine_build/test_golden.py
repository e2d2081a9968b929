from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from engine_build.golden import NEEDED, Golden, render_frames, smallest_cosine

FRAMES, VIEWS, DIMENSIONS = 6, 4, 16
Array = npt.NDArray[np.float32]


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


@pytest.mark.parametrize("angle", [0.0, 0.01, 0.0447, 1.0])
def test_one_embedding_at_an_angle_decides(golden: Golden, angle: float) -> None:
    found = golden.embeddings.copy()
    found[2, 1] = turned_by(angle, golden.embeddings)[2, 1]
    assert smallest_cosine(found, golden.embeddings) == pytest.approx(np.cos(angle), abs=1e-6)


@pytest.mark.parametrize("length", [0.0, 0.9, 1.1])
def test_another_length_counts_against_an_embedding(golden: Golden, length: float) -> None:
    assert smallest_cosine(golden.embeddings * np.float32(length), golden.embeddings) < 0.999


def test_not_a_number_passes_no_limit(golden: Golden) -> None:
    found = golden.embeddings.copy()
    found[0, 0, 0, 0] = np.nan
    assert not smallest_cosine(found, golden.embeddings) >= min(NEEDED.values())


@pytest.mark.parametrize("spread", [0.5, 0.1, 0.01])
def test_confused_views_are_found_even_where_all_embeddings_are_alike(golden: Golden, spread: float) -> None:
    alike = unit(golden.embeddings[:1, :1] / spread + golden.embeddings)
    assert smallest_cosine(alike, alike) == 1
    swapped = alike.copy()
    swapped[3, [1, 2]] = alike[3, [2, 1]]
    assert smallest_cosine(swapped, alike) < 0.9


def test_one_point_for_all_embeddings_is_compared_too(golden: Golden) -> None:
    same = np.broadcast_to(golden.embeddings[:1, :1], golden.embeddings.shape)
    assert smallest_cosine(same, same) == 1
    assert smallest_cosine(golden.embeddings, same) < 0


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
