from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parts import png
from tests.trainer.conftest import SIDE
from trainer.config import DataSettings
from trainer.data import find_good_parts
from trainer.encoder import Architecture, Encoder, normalise
from trainer.rotations import embed_turns, measure_rotations, nearest_turns, report
from worker.contract.detectors import Moments
from worker.contract.framing import Framing
from worker.contract.preprocess import read_frames

LOCAL_ARCHITECTURE = Architecture(network="resnet10", width=8, hidden=8, dimensions=12, local=True)

UPRIGHT = np.tile(np.arange(4), (50, 1))  # every turn of fifty pictures recognised


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(Architecture(width=8, hidden=32, dimensions=8, stem="cifar"))


def photographs(folder: Path, kind: str, count: int = 30) -> Path:
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


def test_embeddings_are_those_of_the_turned_frames(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "arrow", "arrow", 5)
    net, paths = encoder(), sorted(folder.iterdir())
    found = embed_turns(net, paths, DataSettings(path=folder, side=SIDE))
    assert found.shape == (5, 4, 8)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-6)
    for n, path in enumerate(paths):
        (frame,) = read_frames(path, Framing(side=SIDE))
        views = np.stack([np.rot90(frame, v) for v in range(4)])
        with torch.inference_mode():
            raw = net.eval()(normalise(torch.from_numpy(views).permute(0, 3, 1, 2))).numpy()[:, 0]
        np.testing.assert_allclose(found[n], raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-5)


def test_local_embeddings_count_as_their_mean(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "arrow", "arrow", 3)
    torch.manual_seed(0)
    net, paths = Encoder(LOCAL_ARCHITECTURE).eval(), sorted(folder.iterdir())
    found = embed_turns(net, paths, DataSettings(path=folder, side=64))
    assert found.shape == (3, 4, 12)
    for n, path in enumerate(paths):
        (frame,) = read_frames(path, Framing(side=64))
        for r in range(4):
            view = np.rot90(frame, r).astype(np.float32)
            view = (view - view.mean()) / view.std()
            with torch.inference_mode():
                raw = net(torch.from_numpy(view.transpose(2, 0, 1)[None].copy())).numpy()[0]
            mean = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).mean(axis=0)
            np.testing.assert_allclose(found[n, r], mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "views", "words"),
    [
        ("arrow", 4, "arrow: its quarter turns look different, so all four views are used (100% of 36 turned views"),
        ("bar", 2, "bar: it looks the same after a half turn, so two views are enough ("),
        ("ring", 1, "ring: it looks the same when turned, or lies in any direction, so one view is used and a wrong"),
        ("screw", 1, "screw: it looks the same when turned, or lies in any direction"),
    ],
)
def test_what_a_part_looks_like_turned_is_found(tmp_path: Path, kind: str, views: int, words: str) -> None:
    settings = DataSettings(path=photographs(tmp_path / kind, kind), side=SIDE)
    found = measure_rotations(encoder(), find_good_parts(settings), settings)[kind]
    assert found.views == views
    assert found.sentence.startswith(words)


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
