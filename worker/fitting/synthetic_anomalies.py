"""Pictures of good parts with a painted defect: to choose between settings without a look at a real defect.

None of this is learned from. What is chosen on such pictures must not have been trained on the like, so this generator
shares neither code nor recipe with the trainer's own pastes. A patch from another place follows CutPaste (Li et al.,
arXiv 2104.04015), its irregular outline DRAEM (Zavrtanik et al., arXiv 2108.07610).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Mask, Picture

_Field = npt.NDArray[np.float32]
_Painted = tuple[_Field, _Field]  # the change of each pixel (s, s, 3) in grey levels, and its opacity (s, s) in 0 to 1

_TRIES = 10  # until a defect shows
_CANDIDATES = 8  # places to choose among
_SPREAD = 1.6  # a window's side in sizes of its defect: room for a soft outline
_LEAST_SIDE = 7  # px of a window; below, no shape can be told
_FLOOR = 4.0  # grey levels: a flat place is chosen rarely, but not never
_CONTRAST = (2.0, 5.0)  # in standard deviations of the place
_CONTRAST_LIMITS = (20.0, 80.0)  # grey levels: neither invisible on a flat place nor glaring on a busy one
_VISIBLE = 3.0  # grey levels that a defect changes at least, on average over its mask
_VISIBLE_SHARE = 0.5  # the same in standard deviations: a busy place hides more
_OPAQUE = 0.3  # the opacity from which a pixel belongs to the mask


@dataclass(frozen=True, slots=True)
class _Site:
    """Where a defect goes: `pixels` (s, s, 3) float32, `contrast` in grey levels, `width` of the widest line in px."""

    pixels: _Field
    contrast: float
    width: int
    donor: Picture

    @property
    def side(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of defect and the range of its size, in shares of the picture's shorter side."""

    paint: Callable[[_Site, np.random.Generator], _Painted]
    sizes: tuple[float, float]


def paste_all(pictures: Sequence[Picture], seed: int) -> list[tuple[Picture, Mask]]:
    """Paste an anomaly into each picture (H, W, 3); its donor is another of them, or itself where it is alone.

    What becomes of a picture depends on the seed and on its place in the sequence; their sizes may differ.
    """
    pasted = []
    for number, picture in enumerate(pictures):
        rng = np.random.default_rng([seed, number])
        step = int(rng.integers(1, len(pictures))) if len(pictures) > 1 else 0
        pasted.append(paste_anomaly(picture, pictures[(number + step) % len(pictures)], rng))
    return pasted


def paste_anomaly(picture: Picture, donor: Picture, rng: np.random.Generator) -> tuple[Picture, Mask]:
    """A copy of `picture` with one defect of a random kind at a random place, and the defect's mask.

    The defect is small (2.5 to 13 % of the shorter side, a smear up to 30 %, a scratch up to 40 %) and lies rather on
    the part than on a flat background; its contrast follows that of the place. A grey picture stays grey.

    Args:
        picture: (H, W, 3) uint8 RGB of a good part, of 16x16 px or more.
        donor: (H', W', 3) uint8 RGB of another good part; a patch of it may be copied.
        rng: the only source of randomness.

    Returns:
        (H, W, 3) uint8, and (H, W) bool that is never empty; in it the picture differs by 3 grey levels or more on
        average.
    """
    kinds = tuple(KINDS.values())
    for _ in range(_TRIES):
        kind = kinds[rng.integers(len(kinds))]
        pasted, mask, visible = _place(picture, donor, kind, rng)
        if visible:
            return pasted, mask
    pasted, mask, _ = _place(picture, donor, _PLAIN, rng)
    return pasted, mask


def _place(picture: Picture, donor: Picture, kind: _Kind, rng: np.random.Generator) -> tuple[Picture, Mask, bool]:
    """Paint one defect; also whether it can be seen."""
    shorter = min(picture.shape[:2])
    side = max(round(_SPREAD * shorter * rng.uniform(*kind.sizes)), _LEAST_SIDE)
    rows, columns, deviation = _draw_window(picture, side, rng)
    contrast = float(np.clip(deviation * rng.uniform(*_CONTRAST), *_CONTRAST_LIMITS))
    before = picture[rows, columns].astype(np.float32)
    change, opacity = kind.paint(_Site(before, contrast, max(shorter // 100, 1), donor), rng)
    inside = opacity > _OPAQUE
    pasted, mask = picture.copy(), np.zeros(picture.shape[:2], np.bool_)
    if not inside.any():
        return pasted, mask, False
    change = change * opacity[..., None]
    change *= min(contrast / max(float(np.abs(change[inside]).mean()), 1e-6), 1.0)
    after = np.clip(np.rint(before + change), 0, 255)
    pasted[rows, columns], mask[rows, columns] = after.astype(np.uint8), inside
    seen = float(np.abs(after - before)[inside].mean())
    return pasted, mask, seen >= max(_VISIBLE, _VISIBLE_SHARE * min(deviation, contrast))


def _draw_window(picture: Picture, side: int, rng: np.random.Generator) -> tuple[slice, slice, float]:
    """Rows and columns of a square window, and the standard deviation of its grey levels.

    Of several candidates, a busy one is likelier: there the part is, and a defect of a flat background is no defect.
    """
    height, width = picture.shape[:2]
    side = min(side, height, width)
    tops = rng.integers(0, height - side + 1, _CANDIDATES)
    lefts = rng.integers(0, width - side + 1, _CANDIDATES)
    windows = [(slice(top, top + side), slice(left, left + side)) for top, left in zip(tops, lefts, strict=True)]
    deviations = np.array([cv2.meanStdDev(picture[window])[1].mean() for window in windows])
    likelihood = (deviations + _FLOOR) ** 2
    chosen = rng.choice(_CANDIDATES, p=likelihood / likelihood.sum())
    return *windows[chosen], float(deviations[chosen])


def _scratch(site: _Site, rng: np.random.Generator) -> _Painted:
    """A thin line that wanders."""
    heading = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, rng.uniform(0.02, 0.3), 12))
    points = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0)
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - (low + high) / 2) * (site.side / _SPREAD / (high - low).max()) + (site.side - 1) / 2
    canvas = np.zeros((site.side, site.side), np.uint8)
    fixed = np.rint(points * 16).astype(np.int32)  # 4 bits behind the point
    cv2.polylines(canvas, [fixed], False, 255, int(rng.integers(1, site.width + 1)), cv2.LINE_AA, shift=4)
    return _tone(site, rng), np.asarray(canvas / 255, np.float32)


def _spots(site: _Site, rng: np.random.Generator) -> _Painted:
    """One to four soft spots, all dark or all bright."""
    x, y = _grid(site.side)
    count = int(rng.integers(1, 5))
    spots = []
    for _ in range(count):
        radius = rng.uniform(0.35, 0.6) / math.sqrt(count)
        away_x, away_y = rng.uniform(radius - 0.75, 0.75 - radius, 2)
        reach = np.hypot(x - away_x, (y - away_y) * rng.uniform(0.8, 1.25)) / radius
        spots.append(_ramp(1.3 - reach, 0.6))
    return _tone(site, rng), np.asarray(np.max(spots, axis=0), np.float32)


def _smear(site: _Site, rng: np.random.Generator) -> _Painted:
    """What is there, wiped along a line, and a film over it."""
    angle = rng.uniform(0, math.pi)
    length = max(site.side // 3, 3) | 1
    kernel = np.zeros((length, length), np.float32)
    middle = (length - 1) / 2
    across = np.array([math.cos(angle), math.sin(angle)]) * middle
    ends = np.rint(middle + np.stack([-across, across])).astype(int).tolist()
    cv2.line(kernel, ends[0], ends[1], 1.0)
    wiped = cv2.filter2D(site.pixels, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return (wiped - site.pixels).astype(np.float32) + 0.5 * _tone(site, rng), _blob(site.side, rng, angle, 3.0)


def _patch(site: _Site, rng: np.random.Generator) -> _Painted:
    """A piece of the donor, turned, a little brighter or darker."""
    rows, columns, _ = _draw_window(site.donor, site.side, rng)
    piece = np.rot90(site.donor[rows, columns], int(rng.integers(4))).astype(np.float32)
    piece = cv2.resize(piece, (site.side, site.side)).astype(np.float32, copy=False)  # the donor may be the smaller
    return piece - site.pixels + 0.5 * _tone(site, rng), _blob(site.side, rng)


def _texture(site: _Site, rng: np.random.Generator) -> _Painted:
    """A surface that is too smooth, too sharp or too rough."""
    opacity = _blob(site.side, rng)
    smooth = cv2.GaussianBlur(site.pixels, (0, 0), rng.uniform(1.0, max(site.side / 8, 1.5)))
    which = rng.integers(3)
    if which == 0:
        return smooth - site.pixels, opacity
    if which == 1:
        return rng.uniform(1.0, 2.5) * (site.pixels - smooth), opacity
    noise = rng.normal(0, site.contrast, (site.side, site.side)).astype(np.float32)
    return np.repeat(cv2.GaussianBlur(noise, (3, 3), 0)[..., None] * 1.3, 3, axis=2), opacity


def _dent(site: _Site, rng: np.random.Generator) -> _Painted:
    """A bulge or a hollow: the surface is drawn in or out, and lit from one side."""
    x, y = _grid(site.side)
    bump = np.clip(1 - (x**2 + (y * rng.uniform(0.8, 1.25)) ** 2) / 0.6, 0, 1) ** 2
    pull = rng.choice([-1, 1]) * rng.uniform(0.2, 0.5) * bump * site.side / 2
    pixel = np.arange(site.side)
    from_x = (pixel + pull * x).astype(np.float32)
    from_y = (pixel[:, None] + pull * y).astype(np.float32)
    moved = cv2.remap(site.pixels, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    light = rng.uniform(0, 2 * math.pi)
    slope = math.cos(light) * np.gradient(bump, axis=1) + math.sin(light) * np.gradient(bump, axis=0)
    shade = site.contrast * slope / np.abs(slope).max()
    return (moved - site.pixels + shade[..., None]).astype(np.float32), _ramp(bump, 0.2)


def _plain_spot(site: _Site, rng: np.random.Generator) -> _Painted:
    """A spot that shows anywhere: towards middle grey there is always room."""
    towards = np.where(site.pixels < 128, 2.0, -2.0) * _CONTRAST_LIMITS[0]
    return towards.astype(np.float32), _blob(site.side, rng)


KINDS: dict[str, _Kind] = {
    "scratch": _Kind(_scratch, (0.12, 0.4)),
    "spots": _Kind(_spots, (0.025, 0.13)),
    "smear": _Kind(_smear, (0.1, 0.3)),
    "patch": _Kind(_patch, (0.05, 0.13)),
    "texture": _Kind(_texture, (0.06, 0.13)),
    "dent": _Kind(_dent, (0.06, 0.13)),
}
_PLAIN = _Kind(_plain_spot, (0.03, 0.06))


def _tone(site: _Site, rng: np.random.Generator) -> _Field:
    """(3,) darker or brighter by the site's contrast, in the site's own hue; rather darker where it is bright."""
    mean = site.pixels.mean(axis=(0, 1))
    darker = rng.random() < np.clip(mean.mean() / 255, 0.1, 0.9)
    hue = (mean + 16) / (mean.mean() + 16)
    return np.asarray(hue * (-site.contrast if darker else site.contrast), np.float32)


def _blob(side: int, rng: np.random.Generator, angle: float = 0.0, elongation: float = 1.0) -> _Field:
    """(side, side) opacity of an irregular spot with a soft edge, `elongation` times longer than wide."""
    x, y = _grid(side)
    along = math.cos(angle) * x + math.sin(angle) * y
    across = elongation * (math.cos(angle) * y - math.sin(angle) * x)
    bumps = cv2.resize(rng.uniform(-0.25, 0.25, (4, 4)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    return _ramp(0.7 - np.hypot(along, across) + bumps, 0.2)


def _ramp(values: npt.NDArray[np.floating], width: float) -> _Field:
    """0 where a value is negative, 1 from `width` on."""
    return np.asarray(np.clip(values / width, 0, 1), np.float32)


def _grid(side: int) -> tuple[_Field, _Field]:
    """x (1, side) and y (side, 1), from -1 to 1."""
    line = np.linspace(-1, 1, side, dtype=np.float32)
    return line[None], line[:, None]
