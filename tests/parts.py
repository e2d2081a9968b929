"""Small stand-ins that compute for real: engines in plain numpy, and parts to photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from worker.contract.bank import Bank, BankManifest, ScoringSettings
from worker.contract.detectors import Array
from worker.contract.fitting import NormalFit
from worker.contract.framing import Framing, Layout, cut
from worker.contract.manifest import EmbeddingSpec
from worker.contract.scoring import fit_scale, read
from worker.contract.views import place_order, turn
from worker.engine.base import Engine, check_frames
from worker.fit import calibrate
from worker.frames import Frame, Position

SIDE = 32
_GRID = 4  # of the local engine
_CELL = 4  # its blocks a side that describe one position


class NumpyEngine:
    """Embeds each view of a frame by a fixed random projection of its pixels: P = 1."""

    def __init__(
        self,
        *,
        views: int = 4,
        dimensions: int = 8,
        seed: int = 0,
        name: str = "numpy-engine",
        framing: Framing | None = None,
    ) -> None:
        framing = framing or Framing(side=SIDE)
        self.spec = EmbeddingSpec(framing=framing, views=views, positions=1, dimensions=dimensions)
        self.hash = name
        self.target = "numpy"
        self._projection = _projection(seed, framing.side**2 * 3, dimensions)

    def embed(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        check_frames(frames, self.spec)
        views = np.array([[turn(frame, v) for v in range(self.spec.views)] for frame in frames], np.float32)
        flat = views.reshape(len(frames), self.spec.views, 1, len(self._projection)) / 255 - 0.5
        return _unit(flat @ self._projection)

    def close(self) -> None:
        pass


class NumpyLocalEngine:
    """Embeds 4x4 places of each view by a fixed random projection of block means: P = 16, all views' grids upright.

    With `learned` an embedding is (ℓ/4, 1, f) at unit length: its logit ℓ says how far the place's brightest block is
    above 245, as an encoder would that has learned to see glare.
    """

    def __init__(
        self,
        *,
        views: int = 4,
        dimensions: int = 6,
        seed: int = 0,
        name: str = "numpy-local-engine",
        framing: Framing | None = None,
        learned: bool = False,
    ) -> None:
        self.spec = EmbeddingSpec(
            framing=framing or Framing(side=SIDE),
            views=views,
            positions=_GRID**2,
            dimensions=dimensions,
            learned=learned,
        )
        self.hash = name
        self.target = "numpy"
        self._projection = _projection(seed, _CELL**2 * 3, dimensions - 2 * learned)

    def embed(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        check_frames(frames, self.spec)
        order = place_order(self.spec.views, self.spec.positions)
        embeddings = np.empty((len(frames), *order.shape, self.spec.dimensions), np.float32)
        for b, frame in enumerate(frames):
            for v in range(self.spec.views):
                embeddings[b, v] = self._embed_view(turn(frame, v))[order[v]]
        return embeddings

    def close(self) -> None:
        pass

    def _embed_view(self, view: npt.NDArray[np.uint8]) -> Array:
        """(S, S, 3) -> (P, D), row by row as the view lies."""
        block = self.spec.side // (_GRID * _CELL)
        cells = view.reshape(_GRID, _CELL, block, _GRID, _CELL, block, 3).astype(np.float32).mean(axis=(2, 5))
        cells = cells.swapaxes(1, 2).reshape(_GRID**2, -1)
        looks = _unit((cells / 255 - 0.5) @ self._projection)
        if not self.spec.learned:
            return looks
        glare = (cells.max(axis=-1, keepdims=True) - 245) / 10
        return _unit(np.concatenate([glare, np.ones_like(glare), looks], axis=-1))


def good_part(rng: np.random.Generator, product: str = "ring") -> npt.NDArray[np.uint8]:
    """A good part (S, S, 3): one bright corner tells how it lies, another colour which product it is."""
    picture = rng.integers(90, 110, (SIDE, SIDE, 3)).astype(np.uint8)
    picture[:12, :12] = (240, 240, 240) if product == "ring" else (20, 200, 20)
    picture[16:, 4:8] = 30
    return picture


def scratched_part(rng: np.random.Generator, product: str = "ring") -> npt.NDArray[np.uint8]:
    """A good part with a large bright scratch."""
    picture = good_part(rng, product)
    picture[12:28, 16:28] = 250
    return picture


def png(picture: npt.NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def frame(
    data: bytes, offset: int = 0, *, camera: str = "top-01", partition: int = 0, topic: str = "frames", **headers: str
) -> Frame:
    encoded = {"camera": camera, **headers}
    return Frame(Position(topic, partition, offset), camera.encode(), {k: v.encode() for k, v in encoded.items()}, data)


def embedded(engine: Engine, pictures: Sequence[npt.NDArray[np.uint8]]) -> tuple[Array, list[Layout]]:
    """The embeddings of all tiles of some pictures, and the layout of each."""
    parts = [cut(picture, engine.spec.framing) for picture in pictures]
    return engine.embed(np.concatenate([frames for frames, _ in parts])), [layout for _, layout in parts]


def bank_of(
    engine: Engine,
    products: Sequence[str] = ("ring",),
    count: int = 120,
    seed: int = 1,
    scoring: ScoringSettings | None = None,
) -> Bank:
    """A bank fitted from `count` good parts of each product, scaled by as many others and calibrated on as many more.

    Its detectors are those of `scoring`, and mahalanobis where that leaves the choice.
    """
    rng = np.random.default_rng(seed)
    scoring = scoring or ScoringSettings()
    detectors = ("mahalanobis",) if scoring.detectors == "auto" else scoring.detectors
    normals, scales = [], []
    for product in products:
        fit = NormalFit(engine.spec, count, scoring.coreset)
        fit.add(*embedded(engine, [good_part(rng, product) for _ in range(count)]))
        normals.append(fit.build())
        readings = read(
            *embedded(engine, [good_part(rng, product) for _ in range(count)]), normals[-1:], scoring, detectors
        )
        scales.append(fit_scale(np.concatenate([reading.raw for reading in readings])))
    manifest = BankManifest(
        spec=engine.spec,
        engine=engine.hash,
        target=engine.target,
        products=tuple(products),
        scoring=scoring,
        detectors=detectors,
        created_at="2026-01-01T00:00:00.000Z",
    )
    bank = Bank(manifest, tuple(normals), np.stack(scales), ())
    calibration = tuple(
        calibrate(bank, c, iter([embedded(engine, [good_part(rng, product) for _ in range(count)])]))
        for c, product in enumerate(products)
    )
    return replace(bank, calibration=calibration)


def _projection(seed: int, inputs: int, dimensions: int) -> Array:
    return np.random.default_rng(seed).normal(size=(inputs, dimensions)).astype(np.float32)


def _unit(vectors: npt.NDArray[np.floating]) -> Array:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)
