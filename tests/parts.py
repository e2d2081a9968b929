"""Small stand-ins that compute for real: an engine in plain numpy, and parts to photograph."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from worker.contract.bank import Bank, BankManifest, Calibration, ScoringSettings, fit_gaussians
from worker.contract.manifest import EmbeddingSpec
from worker.contract.scoring import distances, scores, turn_ratios
from worker.contract.views import turn
from worker.engine.base import check_frames
from worker.events import Frame, Position

SIDE = 16


class NumpyEngine:
    """Embeds each view of a frame by a fixed random projection of its smoothed pixels."""

    def __init__(self, views: int = 4, dimensions: int = 8, seed: int = 0, name: str = "numpy-engine") -> None:
        self.spec = EmbeddingSpec(side=SIDE, views=views, positions=1, dimensions=dimensions)
        self.hash = name
        self.target = "numpy"
        self._projection = np.random.default_rng(seed).normal(size=(SIDE * SIDE * 3, dimensions)).astype(np.float32)

    def embed(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        check_frames(frames, self.spec)
        views = np.array([[turn(frame, v) for v in range(self.spec.views)] for frame in frames], np.float32)
        flat = views.reshape(len(frames), self.spec.views, 1, SIDE * SIDE * 3) / 255 - 0.5
        projected = flat @ self._projection
        return np.asarray(projected / np.linalg.norm(projected, axis=-1, keepdims=True), np.float32)

    def close(self) -> None:
        pass


def good_part(rng: np.random.Generator, product: str = "ring") -> npt.NDArray[np.uint8]:
    """A good part (S, S, 3): one bright corner tells how it lies, another colour which product it is."""
    picture = rng.integers(90, 110, (SIDE, SIDE, 3)).astype(np.uint8)
    picture[:6, :6] = (240, 240, 240) if product == "ring" else (20, 200, 20)
    picture[8:, 2:4] = 30
    return picture


def png(picture: npt.NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def frame(
    data: bytes, offset: int = 0, *, camera: str = "top-01", partition: int = 0, topic: str = "frames", **headers: str
) -> Frame:
    encoded = {"camera": camera, **headers}
    return Frame(Position(topic, partition, offset), camera.encode(), {k: v.encode() for k, v in encoded.items()}, data)


def bank_of(
    engine: NumpyEngine,
    products: Sequence[str] = ("ring",),
    count: int = 120,
    seed: int = 1,
    scoring: ScoringSettings | None = None,
) -> Bank:
    """A bank fitted from `count` good parts of each product, and calibrated on as many others."""
    rng = np.random.default_rng(seed)
    scoring = scoring or ScoringSettings()
    embeddings = tuple(engine.embed(np.array([good_part(rng, p) for _ in range(count)])) for p in products)
    manifest = BankManifest(
        spec=engine.spec,
        engine=engine.hash,
        target=engine.target,
        products=tuple(products),
        scoring=scoring,
        created_at="2026-01-01T00:00:00.000Z",
        trained_holdout=True,
    )
    bank = Bank(manifest, embeddings, fit_gaussians(embeddings), ())
    calibration = []
    for c, product in enumerate(products):
        fresh = engine.embed(np.array([good_part(rng, product) for _ in range(count)]))
        calibration.append(Calibration(scores(distances(fresh, bank)[:, c], scoring), turn_ratios(fresh, bank, c)))
    return Bank(manifest, embeddings, bank.gaussians, tuple(calibration))
