"""The two products of the demo's line, each a height map with a colour and a gloss.

Lengths are in half pictures: a picture spans −1..1, x to the right, y down, and height +z towards the camera. Outlines
are signed distances, negative inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.float32]

_CHAMFER_SLOPE = 0.45  # shallow enough to mirror the ring light into the camera


@dataclass(frozen=True)
class Material:
    """`colour`: RGB reflectance in 0..1; `gloss`: how much of the light is mirrored rather than scattered."""

    colour: tuple[float, float, float]
    gloss: float


_PLATE = Material((0.19, 0.19, 0.20), 0.2)
_STEEL = Material((0.50, 0.51, 0.52), 0.80)
_POLYMER = Material((0.30, 0.35, 0.39), 0.55)
_GOLD = Material((0.66, 0.50, 0.24), 1.0)


@dataclass(frozen=True)
class Surface:
    """What lies under the camera; the arrays are changed in place.

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
        return Surface(*(getattr(self, field.name).copy() for field in fields(self)))


@dataclass(frozen=True)
class Product:
    """A kind of part. `draw(size, missing)` draws it without its hole or pin number `missing` (of `features`)."""

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
        part.height[:] += np.float32(self.roughness * rng.uniform(0.7, 1.3)) * relief
        part.colour[:] *= (1 + np.float32(0.03 * rng.uniform(0.7, 1.3)) * relief)[..., None]
        return part


@lru_cache(maxsize=4)
def grid(size: int) -> tuple[Map, Map]:
    """x and y of every pixel, each (size, size); shared, do not change."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(2 / size) - 1
    x, y = np.meshgrid(axis, axis)
    return x, y


def cover(outline: Map) -> Map:
    """How much of each pixel lies inside `outline`: 0..1, smooth over one pixel."""
    return np.clip(0.5 - outline * np.float32(len(outline) / 2), 0, 1)


def _flange(size: int, missing: int | None) -> Surface:
    x, y = grid(size)
    part = _empty_plate(size)
    _raise(part, np.maximum(_disc(x, y, 0.86), y - 0.76), 0.16, _STEEL)
    _raise(part, _disc(x, y, 0.46), 0.26, _STEEL, chamfer=0.035)
    keyway = _box(x - 0.27, y, 0.08, 0.06)
    _sink(part, np.minimum(_disc(x, y, 0.27), keyway), through=True)
    for hole in range(6):
        angle = np.pi / 3 * hole
        if hole != missing:
            bolt = _disc(x - float(0.66 * np.cos(angle)), y - float(0.66 * np.sin(angle)), 0.062)
            _sink(part, bolt - 0.045, depth=0.04, chamfer=0.012)
            _sink(part, bolt, through=True)
    _mark(part, 0.0, -0.655, pitch=0.026, code="a3f1c95d7e")
    return part


def _connector(size: int, missing: int | None) -> Surface:
    x, y = grid(size)
    part = _empty_plate(size)
    _raise(part, _box(x, y - 0.15, 0.92, 0.30, 0.08), 0.10, _POLYMER)
    _raise(part, _box(x, y, 0.66, 0.62, 0.06), 0.28, _POLYMER, chamfer=0.035)
    _raise(part, _box(x + 0.30, y + 0.66, 0.15, 0.09, 0.03), 0.22, _POLYMER, chamfer=0.03)
    _sink(part, _box(x, y + 0.06, 0.55, 0.42, 0.04), depth=0.20, chamfer=0.03)
    _sink(part, _disc(x + 0.78, y - 0.15, 0.07), through=True)
    _sink(part, _box(x - 0.78, y - 0.15, 0.055, 0.11, 0.055), through=True)
    for pin in range(10):
        column, row = pin % 5 - 2, pin // 5 - 0.5
        place = x - 0.2 * column, y - 0.38 * row + 0.06
        _sink(part, _disc(*place, 0.062), depth=0.05, chamfer=0.0)
        if pin != missing:
            _raise(part, _box(*place, 0.046, 0.046, 0.012), 0.22, _GOLD, chamfer=0.024)
    _mark(part, 0.40, 0.49, pitch=0.022, code="c6a95")
    return part


def _turned_grain(size: int, rng: np.random.Generator) -> Map:
    """The concentric grooves of a lathe."""
    rings = cv2.blur(rng.standard_normal((size // 2, size // 2), np.float32), (1, size // 8))  # angle × radius
    middle = (size / 2, size / 2)
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    return cv2.warpPolar(rings / rings.std(), (size, size), middle, size / 2, flags).astype(np.float32, copy=False)


def _eroded_grain(size: int, rng: np.random.Generator) -> Map:
    """The even grain of a spark-eroded mould."""
    grain = cv2.GaussianBlur(rng.standard_normal((size, size), np.float32), (0, 0), size / 500)
    return (grain / grain.std()).astype(np.float32, copy=False)


PRODUCTS = (
    Product("flange", _flange, _turned_grain, roughness=0.00025, feature="hole", features=6),
    Product("connector", _connector, _eroded_grain, roughness=0.0003, feature="pin", features=10),
)


@lru_cache(maxsize=32)
def _drawn(product: Product, size: int, missing: int | None) -> Surface:
    return product.draw(size, missing)


def _empty_plate(size: int) -> Surface:
    flat = np.zeros((size, size), np.float32)
    colour = np.broadcast_to(np.float32(_PLATE.colour), (size, size, 3)).copy()
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
    part.height[:] += inside * (top - _CHAMFER_SLOPE * np.clip(outline + chamfer, 0, chamfer) - part.height)
    _paint(part, inside, material)
    part.face[:] = np.maximum(part.face, inside)


def _sink(
    part: Surface, outline: Map, *, depth: float = 0.0, through: bool = False, chamfer: float = 0.025
) -> None:
    """A pocket of some `depth`, or a hole `through` the part; its edge is chamfered outwards."""
    inside = cover(outline)
    part.height[:] -= _CHAMFER_SLOPE * np.clip(chamfer - outline, 0, chamfer) * part.face
    if through:
        cut_away(part, outline)
    else:
        part.height[:] -= depth * inside


def cut_away(part: Surface, outline: Map) -> None:
    """Remove the part inside `outline`, so that the plate shows."""
    inside = cover(outline)
    part.height[:] *= 1 - inside
    part.face[:] *= 1 - inside
    _paint(part, inside, _PLATE)


def _paint(part: Surface, inside: Map, material: Material) -> None:
    part.colour[:] += inside[..., None] * (np.float32(material.colour) - part.colour)
    part.gloss[:] += inside * (np.float32(material.gloss) - part.gloss)


def _mark(part: Surface, x: float, y: float, pitch: float, code: str) -> None:
    """A dot-peened code around (x, y): a column for each hexadecimal digit of `code`, a dot for each of its bits."""
    dots = np.zeros_like(part.height)
    for column, digit in enumerate(code):
        for row in range(4):
            if int(digit, 16) >> row & 1:
                middle = x + pitch * (column - (len(code) - 1) / 2), y + pitch * (row - 1.5)
                draw_dot(dots, middle, 0.4 * pitch)
    part.height[:] -= 0.006 * dots
    part.colour[:] *= 1 - 0.45 * dots[..., None]


def draw_dot(canvas: Map, middle: tuple[float, float], radius: float) -> None:
    """Set a dot of 1 into `canvas`, with smooth edges."""
    scale = 16 * len(canvas) / 2  # cv2 takes sixteenths of a pixel
    centre = [round((value + 1) * scale - 8) for value in middle]
    cv2.circle(canvas, centre, round(radius * scale), 1.0, cv2.FILLED, cv2.LINE_AA, shift=4)
