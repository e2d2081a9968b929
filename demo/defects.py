"""What can be wrong with a part: each defect changes a surface in place, at a random spot and of a random size."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn.demo.parts import Map, Surface, cover, cut_away, grid

Defect = Callable[[Surface, np.random.Generator], None]

_STEPS = 32  # of a scratch's path
_FILMS = np.array([(0.72, 0.70, 0.62), (0.74, 0.56, 0.38), (1.50, 1.52, 1.55)], np.float32)  # oil, rust, dried coolant


def scratch(part: Surface, rng: np.random.Generator) -> None:
    """A bent groove whose ground is bare or dull."""
    length, width = rng.uniform(0.15, 0.55) * part.size / 2, rng.uniform(0.005, 0.012) * part.size / 2
    heading = rng.uniform(0, 2 * math.pi) + np.linspace(0, rng.normal(0, 0.6), _STEPS)
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1) * length / _STEPS, axis=0)
    path += np.array(_spot(part, rng)) - path[_STEPS // 2]
    line = np.zeros_like(part.height)
    cv2.polylines(line, [np.rint(path * 16).astype(np.int32)], False, 1.0, max(1, round(width)), cv2.LINE_AA, shift=4)
    groove = cv2.GaussianBlur(line, (0, 0), max(0.5, width / 3)) * part.face
    brightness = rng.uniform(0.4, 0.9) if rng.random() < 0.6 else rng.uniform(-0.6, -0.35)
    part.height -= rng.uniform(0.004, 0.010) * groove
    part.colour *= 1 + brightness * groove[..., None]


def dent(part: Surface, rng: np.random.Generator) -> None:
    """A shallow oval bowl with a slight rim."""
    radius, stretch = rng.uniform(0.03, 0.08), rng.uniform(1.0, 1.7)
    u, v = _around(part, _spot(part, rng), rng)
    square = (u / radius) ** 2 + (v * stretch / radius) ** 2
    bowl = np.exp(-square) * (1 - 0.25 * square) * part.face
    part.height -= radius * rng.uniform(0.25, 0.55) * bowl


def stain(part: Surface, rng: np.random.Generator) -> None:
    """A ragged film of oil, rust or dried coolant."""
    radius, stretch = rng.uniform(0.06, 0.16), rng.uniform(1.0, 1.6)
    u, v = _around(part, _spot(part, rng), rng)
    thickness = 1.5 * (1 - np.hypot(u, v * stretch) / radius) + 0.5 * _blobs(part, rng, across=24)
    film = np.clip(thickness, 0, 1) * part.face
    part.colour *= 1 + film[..., None] * (_FILMS[rng.integers(len(_FILMS))] - 1)
    part.gloss *= 1 - rng.uniform(0.1, 0.5) * film


def chip(part: Surface, rng: np.random.Generator) -> None:
    """A bite out of an edge: a piece is gone, and the break around it is rough."""
    rim = (part.face > 0.9) & (cv2.erode(part.face, np.ones((5, 5))) < 0.5)
    u, v = _around(part, _pick(rim, rng), rng)
    size = rng.uniform(0.035, 0.085)
    outline = np.hypot(u, 1.3 * v) - size + 0.012 * _blobs(part, rng, across=32)
    broken = cover(outline) * part.face
    part.height += broken * (0.5 * outline - 0.02 + 0.010 * _blobs(part, rng, across=64))
    part.colour *= 1 + 0.1 * broken[..., None]
    cut_away(part, outline + 0.4 * size)


DEFECTS: dict[str, Defect] = {"scratch": scratch, "dent": dent, "stain": stain, "chip": chip}


def _spot(part: Surface, rng: np.random.Generator) -> tuple[int, int]:
    """The pixel (x, y) of a random place on the part, not at its very edge."""
    return _pick(cv2.erode(part.face, np.ones((9, 9))) > 0.9, rng)


def _pick(mask: npt.NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    row, column = divmod(int(rng.choice(np.flatnonzero(mask))), mask.shape[1])
    return column, row


def _around(part: Surface, spot: tuple[int, int], rng: np.random.Generator) -> tuple[Map, Map]:
    """Coordinates with their origin at `spot`, turned at random."""
    x, y = grid(part.size)
    dx, dy = x - x[0, spot[0]], y - y[spot[1], 0]
    angle = rng.uniform(0, 2 * math.pi)
    cosine, sine = math.cos(angle), math.sin(angle)
    return cosine * dx + sine * dy, cosine * dy - sine * dx


def _blobs(part: Surface, rng: np.random.Generator, across: int) -> Map:
    """Smooth noise of about unit variance, `across` blobs wide."""
    coarse = rng.standard_normal((across, across), np.float32)
    blobs = cv2.resize(coarse, (part.size, part.size), interpolation=cv2.INTER_CUBIC)
    return blobs.astype(np.float32, copy=False)
