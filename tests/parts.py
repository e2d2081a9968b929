"""Small stand-ins that compute for real: engines in plain numpy, and parts to photograph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import Bank, BankManifest, Calibration, ScoringSettings
from quarterturn.worker.contract.bank_tensors import needed
from quarterturn.worker.contract.detectors import supported
from quarterturn.worker.contract.embeddings import FRAME, LOGITS, PLACES, Embeddings
from quarterturn.worker.contract.framing import Framing, Layout, cut
from quarterturn.worker.contract.guard import MEASURES, limits_of, measure
from quarterturn.worker.contract.manifest import Depth, EmbeddingSpec
from quarterturn.worker.contract.picture import Decoded
from quarterturn.worker.contract.registration import Registration, small_picture
from quarterturn.worker.contract.traits import PictureTraits
from quarterturn.worker.contract.views import place_order, turn
from quarterturn.worker.engine.base import Engine, check_frames
from quarterturn.worker.fitting.fit import calibrate
from quarterturn.worker.fitting.gallery import with_gallery
from quarterturn.worker.fitting.normal import NormalFit
from quarterturn.worker.fitting.sights import Sight
from quarterturn.worker.inspection.scoring import fit_scale, read
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.pictures.decode import decode_picture

SIDE = 32
LEARNED_FROM: dict[str, Any] = {
    "pictures": PictureTraits(
        widths=(SIDE, SIDE), heights=(SIDE, SIDE), bits=(8,), grey=False, colour=True, jpeg=None, other=True
    ),
    "region": None,
    "bit_depth": None,
    "overkill": 0.02,
}
"""What a bank of these parts says of its pictures."""
_CELL = 4  # blocks a side that describe one place
_LOGITS = 8  # places a side that the logits see


class NumpyEngine:
    """Sees the frame as a whole: a fixed random projection of each view's pixels, of unit length."""

    def __init__(
        self,
        *,
        views: int = 4,
        dimensions: int = 8,
        seed: int = 0,
        name: str = "numpy-engine",
        framing: Framing | None = None,
    ) -> None:
        self.spec = EmbeddingSpec(framing=framing or Framing(side=SIDE), views=views, frame=dimensions)
        self.hash = name
        self.target = "numpy"
        self._seed = seed

    def embed(self, frames: npt.NDArray[np.uint8]) -> Embeddings:
        check_frames(frames, self.spec)
        embeddings = {name: np.empty((len(frames), *shape), np.float32) for name, shape in self.spec.outputs.items()}
        for b, frame in enumerate(frames):
            for v in range(self.spec.views):
                for name, seen in self._see(turn(frame, v)).items():
                    upright = seen if name == FRAME else seen[place_order(self.spec.views, len(seen))[v]]
                    embeddings[name][b, v] = upright
        return embeddings

    def close(self) -> None:
        pass

    def _see(self, view: npt.NDArray[np.uint8]) -> dict[str, Array]:
        """What is said of one view (S, S, 3), place by place as it lies."""
        projected = (view.ravel() / np.float32(255) - 0.5) @ _projection(self._seed, view.size, self.spec.frame)
        return {FRAME: projected / np.linalg.norm(projected)}


class NumpyPlacesEngine(NumpyEngine):
    """Sees places, too: by default 4x4 of them at the depth `middle`, 2x2 at `deep`.

    A place is a fixed random projection of its 4x4 block means. With `logits` it also says of 8x8 places how far their
    brightest pixel is above 245, as an encoder would that has learned to see glare.
    """

    def __init__(
        self, *, depths: Mapping[str, int] = {"middle": 4, "deep": 2}, logits: bool = False, **whole: Any
    ) -> None:
        super().__init__(**{"name": "numpy-places-engine", **whole})
        places = {name: Depth(grid=grid, dimensions=grid + 2) for name, grid in depths.items()}
        self.spec = self.spec.model_copy(update={"places": places, "logits": _LOGITS if logits else None})

    def _see(self, view: npt.NDArray[np.uint8]) -> dict[str, Array]:
        seen = super()._see(view)
        for name, depth in self.spec.places.items():
            cells = _cells(view, depth.grid, _CELL).mean(axis=2).reshape(depth.grid**2, -1)
            seen[f"{PLACES}{name}"] = (cells / 255 - 0.5) @ _projection(self._seed, cells.shape[1], depth.dimensions)
        if self.spec.logits:
            seen[LOGITS] = (_cells(view, self.spec.logits, 1).max(axis=(1, 2, 3)) - 245) * np.float32(0.4)
        return seen


def good_part(rng: np.random.Generator, product: str = "ring") -> npt.NDArray[np.uint8]:
    """A good part (S, S, 3): one bright corner tells how it lies, another colour which product it is."""
    picture = rng.integers(90, 110, (SIDE, SIDE, 3)).astype(np.uint8)
    picture[:12, :12] = (240, 240, 240) if product == "ring" else (20, 200, 20)
    picture[16:, 4:8] = 30
    return picture


def scratched_part(rng: np.random.Generator, product: str = "ring") -> npt.NDArray[np.uint8]:
    """A good part with a large bright scratch, its edge not quite sharp."""
    picture = good_part(rng, product)
    picture[12:28, 16:28] = 175
    picture[13:27, 17:27] = 250
    return picture


def png(picture: npt.NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def png_of_depth(picture: npt.NDArray[np.uint8], bits: int) -> bytes:
    """`picture` as a camera of so many bits gives it: its levels in the upper 8 of them, in 16-bit samples."""
    samples = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR).astype(np.uint16) << bits - 8
    return cv2.imencode(".png", samples | (1 << bits - 8) - 1)[1].tobytes()


def deepen(folder: Path, bits: int) -> None:
    """Make every PNG below `folder` one of a camera of so many bits."""
    for path in folder.rglob("*.png"):
        path.write_bytes(png_of_depth(decode_picture(path.read_bytes()), bits))


def frame(
    data: bytes, offset: int = 0, *, camera: str = "top-01", partition: int = 0, topic: str = "frames", **headers: str
) -> Frame:
    encoded = {"camera": camera, **headers}
    return Frame(Position(topic, partition, offset), camera.encode(), {k: v.encode() for k, v in encoded.items()}, data)


def embedded(engine: Engine, pictures: Sequence[npt.NDArray[np.uint8]]) -> tuple[Embeddings, list[Layout]]:
    """The embeddings of all tiles of some pictures, and the layout of each."""
    parts = [cut(picture, engine.spec.framing) for picture in pictures]
    return engine.embed(np.concatenate([frames for frames, _ in parts])), [layout for _, layout in parts]


def to_learn(engine: Engine, pictures: Sequence[npt.NDArray[np.uint8]]) -> tuple[Embeddings, list[Layout]]:
    """As `embedded`, with the frames' embeddings in four orientations at least: each frame really turned."""
    embeddings, layouts = embedded(engine, pictures)
    frames = [tile for picture in pictures for tile in cut(picture, engine.spec.framing)[0]]
    for turns in range(engine.spec.views, 4):
        turned = engine.embed(np.stack([np.rot90(one, turns) for one in frames]))[FRAME][:, :1]
        embeddings[FRAME] = np.concatenate([embeddings[FRAME], turned], axis=1)
    return embeddings, layouts


def bank_of(
    engine: Engine,
    products: Sequence[str] = ("ring",),
    count: int = 120,
    seed: int = 1,
    scoring: ScoringSettings | None = None,
    *,
    votes: Mapping[str, float] | None = None,
    make: Callable[[np.random.Generator, str], npt.NDArray[np.uint8]] = good_part,
) -> Bank:
    """A bank fitted from `count` good parts of each product, scaled by as many others and calibrated on as many more.

    Its detectors are those of `scoring`, and all where that says `auto`; without `votes` they count alike.
    """
    rng = np.random.default_rng(seed)
    scoring = scoring or ScoringSettings()
    detectors = supported(engine.spec) if scoring.detectors == "auto" else scoring.detectors
    votes = {one: votes[one] if votes else 1 / len(detectors) for one in detectors}
    normals, scales, guards, registrations, gallery = [], [], [], [], []
    for product in products:
        fit = NormalFit(engine.spec, count, scoring.coreset)
        pictures = [make(rng, product) for _ in range(count)]
        fit.add(*to_learn(engine, pictures))
        smalls = [small_picture(*cut(one, engine.spec.framing)) for one in pictures]
        registrations.append(Registration.fit(smalls[::2], smalls[1::2]))
        guards.append(limits_of(np.stack([measure(cut(one, engine.spec.framing)[0]) for one in pictures])))
        names = [f"{product}-{number:03}.png" for number in range(count)]
        normal, shown = with_gallery(
            fit.build(needed(detectors)), names, lambda numbers, all_=pictures: [all_[n] for n in numbers]
        )
        normals.append(normal)
        gallery.append(shown)
        readings = read(*embedded(engine, [make(rng, product) for _ in range(count)]), normals[-1:], scoring, detectors)
        scales.append(fit_scale(np.concatenate([reading.raw for reading in readings])))
    manifest = BankManifest(
        spec=engine.spec,
        engine=engine.hash,
        target=engine.target,
        products=tuple(products),
        scoring=scoring,
        votes=votes,
        **LEARNED_FROM,
        created_at="2026-01-01T00:00:00.000Z",
    )
    bank = Bank(manifest, tuple(normals), np.stack(scales), (), np.stack(guards), tuple(registrations), tuple(gallery))
    calibration = tuple(
        calibrate(bank, c, iter([embedded(engine, pictures)]), [_sight(one, engine.spec.framing) for one in pictures])
        for c, pictures in enumerate([make(rng, product) for _ in range(count)] for product in products)
    )
    return replace(bank, calibration=calibration)


def unmeasured(scores: npt.ArrayLike, distances: npt.ArrayLike, turn_ratios: npt.ArrayLike) -> Calibration:
    """Of pictures that nobody compares with a stream."""
    told = (np.asarray(one, np.float32) for one in (scores, distances, turn_ratios))
    return Calibration(*told, np.empty((0, len(MEASURES)), np.float32), np.empty((0, 4), np.float32))


def nowhere(products: int) -> tuple[Registration, ...]:
    """Of products whose parts lie anywhere."""
    return (Registration(np.zeros((64, 64), np.float32), np.zeros(4, np.float32)),) * products


def any_picture(products: int) -> Array:
    """A guard that lets every picture pass."""
    return np.tile(np.array([-1e6, 1e6], np.float32), (products, len(MEASURES), 1))


def _sight(picture: npt.NDArray[np.uint8], framing: Framing) -> Sight:
    return Sight.of(Decoded(picture, 8, is_grey=False), framing)


@cache
def _projection(seed: int, inputs: int, dimensions: int) -> Array:
    return np.random.default_rng(seed).normal(size=(inputs, dimensions)).astype(np.float32)


def _cells(view: npt.NDArray[np.uint8], grid: int, across: int) -> Array:
    """(S, S, 3) -> (grid², across², n, 3): the n pixels of each block of each place, place by place."""
    side = len(view) // (grid * across)
    blocks = view.reshape(grid, across, side, grid, across, side, 3).transpose(0, 3, 1, 4, 2, 5, 6)
    return blocks.reshape(grid**2, across**2, side**2, 3).astype(np.float32)
