"""What can be wrong with a part: each defect changes a surface in place, at a random spot and of a random size."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from demo.parts import Map, Surface, cover, cut_away, grid

Defect = Callable[[Surface, np.random.Generator], None]


def scratch(part: Surface, rng: np.random.Generator) -> None:
    """A bent groove whose ground is bare or dull."""
    pixels_a_unit = part.size / 2
    heading = rng.uniform(0, 2 * np.pi) + np.linspace(0, rng.normal(0, 0.6), 32)
    length, width = rng.uniform(0.15, 0.55) * pixels_a_unit, rng.uniform(0.005, 0.012) * pixels_a_unit
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * length / 32
    path = np.array(_spot(part, rng)) + np.cumsum(steps, axis=0)
    groove = np.zeros_like(part.height)
    cv2.polylines(groove, [np.rint(path * 16).astype(np.int32)], False, 1.0, max(1, round(width)), cv2.LINE_AA, shift=4)
    groove = cv2.GaussianBlur(groove, (0, 0), max(0.5, width / 3)) * part.face
    part.height[:] -= np.float32(rng.uniform(0.004, 0.010)) * groove
    part.colour[:] *= 1 + np.float32(rng.choice([-0.45, 0.6]) * rng.uniform(0.5, 1)) * groove[..., None]


def dent(part: Surface, rng: np.random.Generator) -> None:
    """A shallow oval bowl with a slight rim."""
    radius, stretch = rng.uniform(0.03, 0.08), rng.uniform(1.0, 1.7)
    u, v = _around(part, _spot(part, rng), rng)
    square = (u / radius) ** 2 + (v * stretch / radius) ** 2
    bowl = np.exp(-square) * (1 - 0.25 * square) * part.face
    part.height[:] -= np.float32(radius * rng.uniform(0.25, 0.55)) * bowl


def stain(part: Surface, rng: np.random.Generator) -> None:
    """A ragged film of oil, rust or dried coolant."""
    radius = rng.uniform(0.06, 0.16)
    u, v = _around(part, _spot(part, rng), rng)
    depth = 1.5 - np.hypot(u, v * np.float32(rng.uniform(1, 1.6))) * np.float32(1.5 / radius) + 0.5 * _blobs(part, rng, 24)
    film = np.clip(depth, 0, 1) * part.face
    tint = np.float32([(0.72, 0.70, 0.62), (0.74, 0.56, 0.38), (1.50, 1.52, 1.55)][rng.integers(3)])
    part.colour[:] *= 1 + film[..., None] * (tint - 1)
    part.gloss[:] *= 1 - np.float32(rng.uniform(0.1, 0.5)) * film


def chip(part: Surface, rng: np.random.Generator) -> None:
    """A bite out of an edge: a piece is gone, and the break around it is rough."""
    rim = (part.face > 0.9) & (cv2.erode(part.face, np.ones((5, 5))) < 0.5)
    u, v = _around(part, _pick(rim, rng), rng)
    size = rng.uniform(0.035, 0.085)
    outline = np.hypot(u, 1.3 * v) - np.float32(size) + 0.012 * _blobs(part, rng, 32)
    broken = cover(outline) * part.face
    part.height[:] += broken * (0.5 * outline - 0.02 + 0.010 * _blobs(part, rng, 64))
    part.colour[:] *= 1 + 0.1 * broken[..., None]
    cut_away(part, outline + np.float32(0.4 * size))


DEFECTS: dict[str, Defect] = {"scratch": scratch, "dent": dent, "stain": stain, "chip": chip}


def _spot(part: Surface, rng: np.random.Generator) -> tuple[int, int]:
    """The pixel (x, y) of a random place on the part, not at its very edge."""
    return _pick(cv2.erode(part.face, np.ones((9, 9))) > 0.9, rng)


def _pick(mask: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    row, column = divmod(int(rng.choice(np.flatnonzero(mask))), mask.shape[1])
    return column, row


def _around(part: Surface, spot: tuple[int, int], rng: np.random.Generator) -> tuple[Map, Map]:
    """Coordinates with their origin at `spot`, turned at random."""
    x, y = grid(part.size)
    dx, dy = x - x[0, spot[0]], y - y[spot[1], 0]
    angle = rng.uniform(0, 2 * np.pi)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cosine * dx + sine * dy, cosine * dy - sine * dx


def _blobs(part: Surface, rng: np.random.Generator, across: int) -> Map:
    """Smooth noise of unit variance, `across` blobs wide."""
    coarse = rng.standard_normal((across, across), np.float32)
    return cv2.resize(coarse, (part.size, part.size), interpolation=cv2.INTER_CUBIC)
