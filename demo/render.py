"""Renders a small plant line: two products under a ring light, photographed from above, with and without defects.

A part is a height map with a colour and a gloss; a defect changes them, and one camera photographs everything. So a
dent shows for the same reason as a chamfer does: its slopes catch the ring, or miss it.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from demo.defects import DEFECTS
from demo.parts import PRODUCTS, Map, Product, Surface, draw_dot, grid

_SUPERSAMPLING = 2
_RING_SLOPE, _RING_WIDTH = 0.42, 0.16  # slopes that mirror the ring into the camera


def take(product: Product, key: tuple[int, ...], side: int, kind: str = "good") -> npt.NDArray[np.uint8]:
    part_rng, defect_rng, camera_rng = np.random.default_rng(key).spawn(3)
    size = _SUPERSAMPLING * side
    missing = int(defect_rng.integers(product.features)) if kind == f"missing_{product.feature}" else None
    part = product.make(size, part_rng, missing)
    if kind in DEFECTS:
        DEFECTS[kind](part, defect_rng)
    turns = int(defect_rng.integers(1, 4)) if kind == "turned" else 0
    return _photograph(_lay_down(part, turns, camera_rng), camera_rng)


def _lay_down(part: Surface, quarter_turns: int, rng: np.random.Generator) -> Surface:
    """The part as it lies on the belt: turned, a little askew and off the middle, with dust."""
    size = part.size
    middle = ((size - 1) / 2, (size - 1) / 2)
    place = cv2.getRotationMatrix2D(middle, 90 * quarter_turns + rng.normal(0, 1.5), rng.normal(1, 0.005))
    place[:, 2] += rng.normal(0, 0.008 * size, 2)

    def move(image: Map, interpolation: int) -> Map:
        return cv2.warpAffine(image, place, (size, size), flags=interpolation, borderMode=cv2.BORDER_REPLICATE)

    dust = np.zeros_like(part.height)
    for _ in range(rng.poisson(5)):
        draw_dot(dust, tuple(rng.uniform(-1, 1, 2)), rng.uniform(0.002, 0.006))
    colour = move(part.colour, cv2.INTER_LINEAR)
    colour += dust[..., None] * np.float32(rng.uniform(-0.1, 0.15))
    return Surface(move(part.height, cv2.INTER_CUBIC), colour, move(part.gloss, cv2.INTER_LINEAR), part.face)


def _photograph(scene: Surface, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    side = scene.size // _SUPERSAMPLING
    light = _ring_light(scene, rng)
    picture = cv2.resize(scene.colour * light[..., None], (side, side), interpolation=cv2.INTER_AREA)
    gain = 1.3 * np.exp(rng.normal(0, 0.08)) * (1 + rng.normal(0, 0.012, 3))
    picture = cv2.GaussianBlur(picture * np.float32(gain), (0, 0), rng.uniform(0.35, 0.75))
    noise = rng.standard_normal(picture.shape, np.float32)
    picture += noise * np.sqrt(0.004**2 + 0.0003 * picture)
    return np.clip(picture * 255, 0, 255).astype(np.uint8)


def _ring_light(scene: Surface, rng: np.random.Generator) -> Map:
    size = scene.size
    dx, dy = (
        cv2.Sobel(scene.height, cv2.CV_32F, *axis, ksize=3, scale=size / 2 / 8) for axis in ((1, 0), (0, 1))
    )
    lean = np.float32(rng.normal(0, 0.05, 2))
    steep = (dx - lean[0]) ** 2 + (dy - lean[1]) ** 2
    slope = np.sqrt(steep)
    diffuse = 1 / np.sqrt(1 + steep)
    coaxial = np.exp(-steep / 0.10**2)
    ring = np.exp(-(((slope - _RING_SLOPE) / _RING_WIDTH) ** 2))
    small = cv2.resize(scene.height, (64, 64), interpolation=cv2.INTER_AREA)
    around = cv2.resize(cv2.GaussianBlur(small, (0, 0), 2.5), (size, size), interpolation=cv2.INTER_LINEAR)
    open_sky = 1 - np.clip(3.0 * (around - scene.height), 0, 0.85)
    x, y = grid(size)
    tilt = np.float32(rng.normal(0, 0.05, 2))
    gradient = 1 + tilt[0] * x + tilt[1] * y - 0.10 * (x * x + y * y)
    return (0.55 * diffuse + scene.gloss * (0.45 * coaxial + 0.9 * ring)) * open_sky * gradient
