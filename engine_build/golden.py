"""Golden frames: what every engine must reproduce before it may be written, and may be checked against ever after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import safetensors.numpy

from worker.contract.framing import Picture
from worker.contract.manifest import Precision

GOLDEN = "golden.safetensors"
NEEDED: dict[Precision, float] = {"float32": 0.9999, "float16": 0.999, "bfloat16": 0.999}
"""The smallest cosine between an engine's golden embedding and torch's that is let through."""


@dataclass(frozen=True)
class Golden:
    """Frames (N, S, S, 3) uint8 and their embeddings (N, V, P, D) float32 by torch."""

    frames: npt.NDArray[np.uint8]
    embeddings: npt.NDArray[np.float32]

    def save(self, folder: Path) -> None:
        """Write both as `golden.safetensors`."""
        blob = safetensors.numpy.save({"frames": self.frames, "embeddings": self.embeddings})
        (folder / GOLDEN).write_bytes(blob)

    @classmethod
    def load(cls, folder: Path) -> Golden:
        """What `save` wrote to `folder`."""
        tensors = safetensors.numpy.load_file(folder / GOLDEN)
        return cls(tensors["frames"], tensors["embeddings"])


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


def smallest_cosine(found: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> float:
    """The smallest cosine between two sets of unit vectors (N, V, P, D), as if `wanted` filled the whole sphere.

    For unit vectors at distance d the cosine is 1 − d²/2 (for others this is smaller). Where a model puts all its
    embeddings close together, at a mean square s² < 1 around their mean, that would be nearly 1 even for confused
    views; what a score sees there is d relative to s, so it is 1 − d²/2s². NaN where `found` has NaN.
    """
    target = wanted.astype(np.float64)
    squares = np.square(found - target).sum(axis=-1)
    spread = np.square(target - target.mean(axis=(0, 1, 2))).sum(axis=-1).mean()
    return float(1 - squares.max() / (2 * np.clip(spread, 1e-12, 1)))
