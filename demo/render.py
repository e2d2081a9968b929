"""Renders a small plant line: two products on a dark plate, photographed from above under a ring light.

A part is a height map with a colour and a gloss; a defect changes them, and one camera photographs everything. So a
dent shows for the same reason as a chamfer does: its slopes catch the ring, or miss it.
"""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from quarterturn.demo.defects import DEFECTS
from quarterturn.demo.parts import PRODUCTS, Map, Product, Surface, draw_dot, grid
from quarterturn.worker.contract.arrays import Picture
from quarterturn.worker.contract.errors import DataError

_GOOD, _TURNED = "good", "turned"
_SUPERSAMPLING = 2
_POLISHED = 0.45  # half pictures around the middle
_RING_SLOPE, _RING_WIDTH = 0.42, 0.16  # slopes that mirror the ring into the camera


def render_line(
    folder: Path, seed: int = 0, *, side: int = 192, train: int = 240, test: int = 60, defects: int = 20
) -> None:
    """Write `<product>/train/good`, `<product>/test/good` and `<product>/test/<kind>` into `folder`.

    The kinds are those of `kinds_of`; "turned" are good parts that lie turned by one, two or three quarters.

    Args:
        folder: where to; made if missing. Pictures of the same name are overwritten.
        seed: the same seed gives the same pictures.
        side: width and height in pixels.
        train: pictures of each product in `train/good`.
        test: pictures of each product in `test/good`.
        defects: pictures of each product and kind.

    Raises:
        DataError: the folder cannot be written.
    """

    def write(product: Product, kind: str, path: Path) -> None:
        name = path.relative_to(folder).as_posix()  # the picture's own stream: asking for more changes no other
        picture = take(product, (seed, zlib.crc32(name.encode())), side, kind)
        _, jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        path.write_bytes(jpeg.tobytes())

    sets = [
        (product, kind, folder / product.name / place / kind, count)
        for product in PRODUCTS
        for place, kind, count in (
            ("train", _GOOD, train),
            ("test", _GOOD, test),
            *(("test", kind, defects) for kind in kinds_of(product)),
        )
    ]
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            written = []
            for product, kind, place, count in sets:
                place.mkdir(parents=True, exist_ok=True)
                written += [pool.submit(write, product, kind, place / f"{index:04}.jpg") for index in range(count)]
            for picture in written:
                picture.result()
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error


def kinds_of(product: Product) -> tuple[str, ...]:
    """The kinds of bad pictures of `product`: its defects, and "turned"."""
    return (*DEFECTS, _missing(product), _TURNED)


def take(product: Product, key: tuple[int, ...], side: int, kind: str = _GOOD, *, gloss: float = 1.0) -> Picture:
    """One picture, (side, side, 3) RGB, of a part that is good or bad in the way `kind` says.

    Pictures of the same `key` show the same part in the same light, so any defect has its good twin. `gloss` is how
    many times as much light as usual the middle of the part mirrors: another supplier polishes it, which is no defect.

    Raises:
        ValueError: `kind` is neither "good" nor one of `kinds_of(product)`.
    """
    if kind not in (_GOOD, *kinds_of(product)):
        raise ValueError(f"a {product.name} is good or {', '.join(kinds_of(product))}, not '{kind}'")
    part_rng, fault_rng, camera_rng = np.random.default_rng(key).spawn(3)
    missing = int(fault_rng.integers(product.features)) if kind == _missing(product) else None
    part = product.make(_SUPERSAMPLING * side, part_rng, missing)
    if kind in DEFECTS:
        DEFECTS[kind](part, fault_rng)
    x, y = grid(part.size)
    part.gloss[np.hypot(x, y) < _POLISHED] *= gloss
    turns = int(fault_rng.integers(1, 4)) if kind == _TURNED else 0
    return _photograph(_lay_down(part, turns, camera_rng), camera_rng)


def _missing(product: Product) -> str:
    return f"missing_{product.feature}"


def _lay_down(part: Surface, quarter_turns: int, rng: np.random.Generator) -> Surface:
    """The part on the plate: turned, a little askew and off the middle, and dusty."""
    middle = (part.size - 1) / 2
    place = cv2.getRotationMatrix2D((middle, middle), 90 * quarter_turns + rng.normal(0, 1.5), rng.normal(1, 0.005))
    place[:, 2] = place[:, 2] + rng.normal(0, 0.008 * part.size, 2)
    scene = part.moved(place)
    dust = np.zeros_like(scene.height)
    for _ in range(rng.poisson(5)):
        draw_dot(dust, (rng.uniform(-1, 1), rng.uniform(-1, 1)), rng.uniform(0.002, 0.006))
    scene.colour += rng.uniform(-0.1, 0.15) * dust[..., None]
    return scene


def _photograph(scene: Surface, rng: np.random.Generator) -> Picture:
    """A slightly blurred, noisy picture; brightness and tint vary, and more than any defect changes them."""
    side = scene.size // _SUPERSAMPLING
    lit = scene.colour * _light(scene.height, scene.gloss, rng)[..., None]
    picture = cv2.resize(lit, (side, side), interpolation=cv2.INTER_AREA)
    gain = 1.3 * np.exp(rng.normal(0, 0.08)) * (1 + rng.normal(0, 0.012, 3))
    picture = cv2.GaussianBlur(picture * gain.astype(np.float32), (0, 0), rng.uniform(0.35, 0.75))
    noise = np.sqrt(0.004**2 + 0.0003 * picture)  # of reading, and of the photons
    noisy = picture + noise * rng.standard_normal(picture.shape, np.float32)
    exposed: Picture = np.clip(255 * noisy, 0, 255).astype(np.uint8)
    return exposed


def _light(height: Map, gloss: Map, rng: np.random.Generator) -> Map:
    """How much light every pixel sends to the camera: scattered, and mirrored from the lens's side and the ring.

    No direction is special from picture to picture, or the light would tell how a part lies.
    """
    size = len(height)
    lean_x, lean_y, fall_x, fall_y = rng.normal(0, 0.05, 4).tolist()  # the lamp's tilt, and its fall to one side
    dx = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=size / 16) - lean_x
    dy = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=size / 16) - lean_y
    square = dx * dx + dy * dy
    scattered = 1 / np.sqrt(1 + square)
    coaxial = np.exp(-square / 0.10**2)
    ring = np.exp(-(((np.sqrt(square) - _RING_SLOPE) / _RING_WIDTH) ** 2))
    x, y = grid(size)
    field = 1 + fall_x * x + fall_y * y - 0.10 * (x * x + y * y)
    light: Map = (0.55 * scattered + gloss * (0.45 * coaxial + 0.9 * ring)) * _openness(height) * field
    return light


def _openness(height: Map) -> Map:
    """How much of the ring each pixel sees past its surroundings: 1 on top, less in holes and beside walls."""
    small = cv2.GaussianBlur(cv2.resize(height, (64, 64), interpolation=cv2.INTER_AREA), (0, 0), 2.5)
    surroundings = cv2.resize(small, height.shape, interpolation=cv2.INTER_LINEAR)
    return np.clip(1 - 3 * (surroundings - height), 0.15, 1)
