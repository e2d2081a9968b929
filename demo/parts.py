"""The two products of the demo's line, each a height map with a colour and a gloss.

Lengths are in half pictures: a picture spans −1..1, x to the right, y down, and height +z towards the camera. Outlines
are signed distances, negative inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.floating[Any]]  # float32

_HOLES, _PINS = 6, 10
_CHAMFER_SLOPE = 0.45  # shallow enough to mirror the ring light into the camera


@dataclass(frozen=True)
class Material:
    """`colour`: RGB reflectance in 0..1; `gloss`: how much of the light is mirrored rather than scattered."""

    colour: tuple[float, float, float]
    gloss: float


_PLATE = Material((0.19, 0.19, 0.20), 0.2)
_STEEL = Material((0.50, 0.51, 0.52), 0.80)
_POLYMER = Material((0.30, 0.35, 0.39), 0.7)
_GOLD = Material((0.66, 0.50, 0.24), 1.0)


@dataclass
class Surface:
    """What lies under the camera; drawing changes the arrays in place.

    `height`, `gloss`, `face` (how much of a pixel is the part): (N, N); `colour`: (N, N, 3) RGB.
    """

    height: Map
    colour: Map
    gloss: Map
    face: Map

    @property
    def size(self) -> int:
        """N, in pixels."""
        return len(self.height)

    def copy(self) -> Surface:
        """A copy that the caller may change."""
        return Surface(*(each.copy() for each in self._maps))

    def moved(self, matrix: npt.NDArray[Any]) -> Surface:
        """A copy, moved by the affine (2, 3) `matrix` in pixels; the plate goes on at the borders."""

        def move(each: Map) -> Map:
            size, flags = (self.size, self.size), cv2.INTER_LINEAR
            moved = cv2.warpAffine(each, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
            return moved.astype(np.float32, copy=False)

        return Surface(*(move(each) for each in self._maps))

    @property
    def _maps(self) -> tuple[Map, Map, Map, Map]:
        return self.height, self.colour, self.gloss, self.face


@dataclass(frozen=True)
class Product:
    """A kind of part.

    `draw(size, missing)`: its surface, without the hole or pin number `missing` of `features`. `grain(size, rng)`: the
    relief that its making leaves, of unit variance; `roughness`: that relief's usual height.
    """

    name: str
    draw: Callable[[int, int | None], Surface]
    grain: Callable[[int, np.random.Generator], Map]
    roughness: float
    feature: str
    features: int

    def make(self, size: int, rng: np.random.Generator, missing: int | None = None) -> Surface:
        """One part of its own, with its own grain; the caller keeps it."""
        part = _drawn(self, size, missing).copy()
        relief = self.grain(size, rng) * part.face
        part.height += self.roughness * rng.uniform(0.7, 1.3) * relief
        part.colour *= (1 + 0.03 * rng.uniform(0.7, 1.3) * relief)[..., None]
        return part


@lru_cache(maxsize=4)
def grid(size: int) -> tuple[Map, Map]:
    """x and y of every pixel, each (size, size), read-only."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    x, y = np.meshgrid(axis, axis)
    for shared in (x, y):
        shared.setflags(write=False)
    return x, y


def cover(outline: Map) -> Map:
    """How much of each pixel lies inside `outline`: 0..1, smooth over one pixel."""
    inside: Map = np.clip(0.5 - outline * (len(outline) / 2), 0, 1)
    return inside


def _flange(size: int, missing: int | None) -> Surface:
    x, y = grid(size)
    part = _empty_plate(size)
    _raise(part, np.maximum(_disc(x, y, 0.86), y - 0.76), 0.16, _STEEL)
    _raise(part, _disc(x, y, 0.46), 0.26, _STEEL, chamfer=0.035)
    keyway = _box(x - 0.27, y, 0.08, 0.06)
    _hole(part, np.minimum(_disc(x, y, 0.27), keyway))
    for hole in range(_HOLES):
        angle = 2 * math.pi * hole / _HOLES
        if hole != missing:
            bolt = _disc(x - 0.66 * math.cos(angle), y - 0.66 * math.sin(angle), 0.062)
            _pocket(part, bolt - 0.045, depth=0.04, chamfer=0.012)
            _hole(part, bolt)
    _mark(part, 0.0, -0.655, pitch=0.030, code="a3f1c95d7e")  # pragma: allowlist secret
    return part


def _connector(size: int, missing: int | None) -> Surface:
    x, y = grid(size)
    part = _empty_plate(size)
    _raise(part, _box(x, y - 0.15, 0.92, 0.30, 0.08), 0.10, _POLYMER)
    _raise(part, _box(x, y, 0.66, 0.62, 0.06), 0.28, _POLYMER, chamfer=0.035)
    _raise(part, _box(x + 0.30, y + 0.66, 0.15, 0.09, 0.03), 0.22, _POLYMER, chamfer=0.03)
    _pocket(part, _box(x, y + 0.06, 0.55, 0.42, 0.04), depth=0.20, chamfer=0.03)
    _hole(part, _disc(x + 0.78, y - 0.15, 0.07))
    _hole(part, _box(x - 0.78, y - 0.15, 0.055, 0.11, 0.055))
    for pin in range(_PINS):
        row, column = pin // 5 - 0.5, pin % 5 - 2
        place = x - 0.2 * column, y - 0.38 * row + 0.06
        _pocket(part, _disc(*place, 0.062), depth=0.05, chamfer=0.0)
        if pin != missing:
            _raise(part, _box(*place, 0.046, 0.046, 0.012), 0.22, _GOLD, chamfer=0.024)
    _mark(part, 0.40, 0.49, pitch=0.028, code="c6a95")
    return part


def _turned_grain(size: int, rng: np.random.Generator) -> Map:
    """The concentric grooves of a lathe."""
    noise = rng.standard_normal((size // 2, size // 2), np.float32)  # angle × radius
    grooves = cv2.blur(np.concatenate([noise, noise]), (1, size // 8))[size // 4 : -(size // 4)]  # smooth all round
    flags = cv2.WARP_INVERSE_MAP | cv2.WARP_FILL_OUTLIERS | cv2.INTER_LINEAR
    middle = (size / 2, size / 2)
    relief: Map = cv2.warpPolar(grooves / grooves.std(), (size, size), middle, size / 2, flags)
    return relief


def _eroded_grain(size: int, rng: np.random.Generator) -> Map:
    """The even grain of a spark-eroded mould."""
    grain = cv2.GaussianBlur(rng.standard_normal((size, size), np.float32), (0, 0), size / 500)
    relief: Map = grain / grain.std()
    return relief


PRODUCTS = (
    Product("flange", _flange, _turned_grain, roughness=0.00025, feature="hole", features=_HOLES),
    Product("connector", _connector, _eroded_grain, roughness=0.0003, feature="pin", features=_PINS),
)


@lru_cache(maxsize=4)
def _drawn(product: Product, size: int, missing: int | None) -> Surface:
    return product.draw(size, missing)


def _empty_plate(size: int) -> Surface:
    flat = np.zeros((size, size), np.float32)
    colour = np.full((size, size, 3), _PLATE.colour, np.float32)
    return Surface(flat, colour, np.full_like(flat, _PLATE.gloss), np.zeros_like(flat))


def _disc(x: Map, y: Map, radius: float) -> Map:
    return np.hypot(x, y) - radius


def _box(x: Map, y: Map, half_width: float, half_height: float, rounding: float = 0.0) -> Map:
    beside, below = np.abs(x) - (half_width - rounding), np.abs(y) - (half_height - rounding)
    corner = np.hypot(np.maximum(beside, 0), np.maximum(below, 0))
    return corner + np.minimum(np.maximum(beside, below), 0) - rounding


def _raise(part: Surface, outline: Map, top: float, material: Material, chamfer: float = 0.025) -> None:
    """A block up to the height `top`, its edge chamfered inwards."""
    inside = cover(outline)
    part.height += inside * (top - _CHAMFER_SLOPE * np.clip(outline + chamfer, 0, chamfer) - part.height)
    _paint(part, inside, material)
    np.maximum(part.face, inside, out=part.face)


def _pocket(part: Surface, outline: Map, depth: float, chamfer: float = 0.025) -> None:
    """A pocket of some `depth`, its edge chamfered outwards."""
    _chamfer_around(part, outline, chamfer)
    part.height -= depth * cover(outline)


def _hole(part: Surface, outline: Map, chamfer: float = 0.025) -> None:
    """A hole through the part, its edge chamfered outwards."""
    _chamfer_around(part, outline, chamfer)
    cut_away(part, outline)


def _chamfer_around(part: Surface, outline: Map, width: float) -> None:
    part.height -= _CHAMFER_SLOPE * np.clip(width - outline, 0, width) * part.face


def cut_away(part: Surface, outline: Map) -> None:
    """Remove the part inside `outline`, so that the plate shows."""
    inside = cover(outline)
    part.height *= 1 - inside
    part.face *= 1 - inside
    _paint(part, inside, _PLATE)


def _paint(part: Surface, inside: Map, material: Material) -> None:
    part.colour += inside[..., None] * (np.asarray(material.colour, np.float32) - part.colour)
    part.gloss += inside * (material.gloss - part.gloss)


def _mark(part: Surface, x: float, y: float, pitch: float, code: str) -> None:
    """A dot-peened code around (x, y): a column for each hexadecimal digit of `code`, a dot for each of its bits."""
    dots = np.zeros_like(part.height)
    for column, digit in enumerate(code):
        for row in range(4):
            if int(digit, 16) >> row & 1:
                middle = x + pitch * (column - (len(code) - 1) / 2), y + pitch * (row - 1.5)
                draw_dot(dots, middle, 0.4 * pitch)
    part.height -= 0.003 * dots
    part.colour *= 1 - 0.6 * dots[..., None]


def draw_dot(canvas: Map, middle: tuple[float, float], radius: float) -> None:
    """Set a dot of 1 into `canvas`, with smooth edges."""
    scale = 16 * len(canvas) / 2  # cv2 takes sixteenths of a pixel
    centre = [round((value + 1) * scale - 8) for value in middle]
    cv2.circle(canvas, centre, round(radius * scale), 1.0, cv2.FILLED, cv2.LINE_AA, shift=4)
