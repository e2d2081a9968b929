"""Golden frames: what every engine must reproduce before it may be written, and may be checked against ever after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import safetensors.numpy

from quarterturn.worker.contract.arrays import Array, Picture
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.manifest import Precision

GOLDEN = "golden.safetensors"
NEEDED: dict[Precision, float] = {"float32": 0.9999, "float16": 0.999, "bfloat16": 0.97}
"""The smallest parity that is let through where somebody asks for the type; what it costs is in docs/engines.md."""

_TINY = 1e-30  # a vector of length 0, such as the logits of a head that was never trained, can be met exactly


@dataclass(frozen=True)
class Golden:
    """Frames (N, S, S, 3) uint8 and their embeddings by torch: all of the engine's outputs."""

    frames: npt.NDArray[np.uint8]
    embeddings: Embeddings

    def save(self, folder: Path) -> None:
        """Write both as `golden.safetensors`: `frames`, and each output by its name."""
        blob = safetensors.numpy.save({"frames": self.frames, **self.embeddings})
        (folder / GOLDEN).write_bytes(blob)

    @classmethod
    def load(cls, folder: Path) -> Golden:
        """What `save` wrote to `folder`."""
        tensors = safetensors.numpy.load_file(folder / GOLDEN)
        return cls(tensors.pop("frames"), tensors)


def render_frames(side: int, count: int) -> npt.NDArray[np.uint8]:
    """(count, side, side, 3) uint8: uneven light, shapes and grain, no two alike and none alike when turned."""
    rng = np.random.default_rng(0)
    return np.stack([_render(side, rng) for _ in range(count)])


def _render(side: int, rng: np.random.Generator) -> Picture:
    light = rng.uniform(0, 255, (3, 3, 3)).astype(np.float32)
    picture = cv2.resize(light, (side, side), interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        centre, end = rng.integers(0, side, (2, 2)).tolist()
        axes = rng.integers(1, max(2, side // 3), 2).tolist()
        colour, line = rng.uniform(0, 255, (2, 3)).tolist()
        cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, cv2.FILLED)
        cv2.line(picture, centre, end, line, 1)
    grain = rng.normal(0, rng.uniform(1, 20), picture.shape)
    pixels: Picture = np.clip(picture + grain, 0, 255).astype(np.uint8)
    return pixels


def parity(found: Embeddings, golden: Embeddings) -> float:
    """The smallest cosine between the embeddings found and the golden ones, over outputs, frames and views.

    An output of one frame and view is one vector g, all its places together: E, P · D or P numbers. The cosine between
    it and another of its length, at distance d, is 1 − d²/2‖g‖²; computed so, another length counts against it, too, as
    the distances of a bank would see it. At least −1, which is also what a NaN counts.
    """
    return min(_smallest_cosine(found[name], values) for name, values in golden.items())


def _smallest_cosine(found: Array, golden: Array) -> float:
    """Of (N, V, ...) against (N, V, ...)."""
    vectors, wanted = (values.astype(np.float64).reshape(*values.shape[:2], -1) for values in (found, golden))
    with np.errstate(invalid="ignore"):  # infinite numbers
        squares = np.square(vectors - wanted).sum(axis=-1)
        cosines = 1 - squares / (2 * np.maximum(np.square(wanted).sum(axis=-1), _TINY))
    return float(np.nan_to_num(cosines, nan=-1).clip(min=-1).min())
