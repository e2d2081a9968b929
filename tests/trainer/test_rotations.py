from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from quarterturn.trainer.config import DataSettings
from quarterturn.trainer.data import find_good_parts
from quarterturn.trainer.rotations import measure_rotations, nearest_turns, report, turn_features
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.gaussians import Moments
from quarterturn.worker.pictures.read import read_frames
from quarterturn.worker.pictures.sets import split_held_out
from tests.parts import png

SIDE = 32

UPRIGHT = np.tile(np.arange(4), (50, 1))  # every turn of fifty pictures recognised


def blocks(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(n, S, S, 3) -> (n, 4, 16): the means of 4 x 4 blocks of each turn."""
    turns = [np.rot90(frames, turn, axes=(1, 2)).reshape(-1, 4, SIDE // 4, 4, SIDE // 4, 3) for turn in range(4)]
    return np.stack([turn.mean(axis=(2, 4, 5)).reshape(-1, 16) for turn in turns], axis=1).astype(np.float32)


def photographs(folder: Path, kind: str, count: int = 120) -> Path:
    """Noisy pictures of a part: arrow and screw show their turn, bar and ring do not fully; screws lie in any."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for n in range(count):
        part = np.full((SIDE, SIDE, 3), 100, np.uint8)
        if kind in ("arrow", "screw"):
            part[4:12, 4:24] = 220
        elif kind == "bar":
            part[12:20, 2:30] = 220
        elif kind == "ring":
            part[4:28, 4:28] = 220
            part[10:22, 10:22] = 100
        if kind == "screw":
            part = np.rot90(part, rng.integers(4))
        noisy = np.clip(part + rng.normal(0, 4, part.shape), 0, 255).astype(np.uint8)
        (folder / f"{n:03}.png").write_bytes(png(noisy))
    return folder


@pytest.mark.parametrize(
    ("kind", "views", "words"),
    [
        (
            "arrow",
            4,
            "arrow: its quarter turns look different, so that a wrong orientation can be found (100% of 40",
        ),
        ("bar", 2, "bar: it looks the same after a half turn ("),
        ("ring", 1, "ring: it looks the same when turned, or lies in any direction: no wrong orientation"),
        ("screw", 1, "screw: it looks the same when turned, or lies in any direction"),
    ],
)
def test_what_a_part_looks_like_turned_is_found(tmp_path: Path, kind: str, views: int, words: str) -> None:
    settings = DataSettings(path=photographs(tmp_path / kind, kind), side=SIDE)
    features = turn_features(find_good_parts(settings), settings, blocks)
    found = measure_rotations(features)[kind]
    assert found.views == views
    assert found.sentence.startswith(words)
    blind = measure_rotations(features, lambda given: given[..., :2] * 0)[kind]
    assert blind.views == 1, "by what is made of the features"


def test_no_picture_that_calibrates_is_looked_at(tmp_path: Path) -> None:
    """And of many to learn from, only some."""
    settings = DataSettings(path=photographs(tmp_path / "arrow", "arrow", 400), side=SIDE, holdout=0.1)
    parts = find_good_parts(settings)
    (learned,), (held_out,) = parts.learned, parts.held_out
    to_choose, _ = split_held_out(held_out)
    names = {read_frames(path, Framing(side=SIDE))[0].tobytes(): path for path in (*learned, *held_out)}
    seen: list[Path] = []

    def embed(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        seen.extend(names[frame.tobytes()] for frame in frames)
        return blocks(frames)

    found = turn_features(parts, settings, embed)["arrow"]
    assert (len(found.learned), len(found.held_out)) == (len(seen) - len(to_choose), len(to_choose))
    assert [path for path in seen if path in held_out] == to_choose
    chosen = [path for path in seen if path in learned]
    assert 30 <= len(chosen) <= 60
    places = [learned.index(path) for path in chosen]
    assert {after - before for before, after in itertools.pairwise(places)} == {7}, "evenly from all"
    assert len(learned) - places[-1] <= 7


def test_nearest_turn_is_that_of_the_smallest_mahalanobis_distance() -> None:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(40, 4, 3)) * [0.1, 1, 0.3] + rng.normal(size=(4, 3))
    queries = rng.normal(size=(6, 4, 3)).astype(np.float32)
    moments = Moments(4, dimensions=3)
    moments.add(normal.astype(np.float32))
    gaussians = moments.gaussian()
    found = nearest_turns(queries, gaussians)
    for n in range(6):
        for v in range(4):
            away = queries[n, v] - gaussians.mean
            precision = [w.T @ w for w in gaussians.whitening]
            assert found[n, v] == np.argmin([d @ p @ d for d, p in zip(away, precision, strict=True)])


def guesses(right: float, opposite: float) -> np.ndarray:
    """Guesses of which a share is right, a share off by a half turn, and the rest by a quarter turn."""
    errors = np.full(UPRIGHT.size, 1)
    errors[: round(UPRIGHT.size * (right + opposite))] = 2
    errors[: round(UPRIGHT.size * right)] = 0
    return (UPRIGHT + errors.reshape(UPRIGHT.shape)) % 4


@pytest.mark.parametrize(
    ("right", "opposite", "views"),
    [(1, 0, 4), (0.63, 0, 4), (0.62, 0.12, 1), (0.62, 0.14, 2), (0.38, 0.38, 2), (0.37, 0.37, 1), (0.25, 0.25, 1)],
)
def test_views_are_as_many_as_are_told_apart_halfway_between_guessing_and_certainty(
    right: float, opposite: float, views: int
) -> None:
    found = report("ring", guesses(right, opposite))
    assert found.views == views
    assert found.accuracy == pytest.approx(right)
    assert f"({right:.0%} of 200 turned views of 50 held-out pictures were recognised)" in found.sentence
