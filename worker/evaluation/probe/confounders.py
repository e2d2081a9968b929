"""Confounders: what is easily told of a picture, and has nothing to do with whether its part is good."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import NormalDist

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Picture
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.picture import BitDepth
from quarterturn.worker.fitting.normal import auroc
from quarterturn.worker.pictures.decode import decode_picture
from quarterturn.worker.pictures.jpeg_header import DQT, segments
from quarterturn.worker.pictures.near_duplicates import Grey, thumbnail

NOTABLE = 0.65  # an AUROC below it is a trifle, however many pictures show it

# What each number measures, and what a picture with more, and with less of it is.
_NUMBERS = (
    ("brightness", "brighter", "darker"),
    ("contrast", "richer in contrast", "poorer in contrast"),
    ("corner brightness", "brighter in the corners", "darker in the corners"),
    ("edge brightness", "brighter along the edges", "darker along the edges"),
    ("sharpness", "sharper", "softer"),
    ("saturation", "more colourful", "less colourful"),
    ("picture size", "larger", "smaller"),
    ("aspect ratio", "wider", "taller"),
    ("file size", "larger on disk", "smaller on disk"),
)
_KINDS = ("file format", "compression")
CONFOUNDERS = (*(name for name, *_ in _NUMBERS), *_KINDS)

_FORMATS = {
    b"\xff\xd8": "JPEG",
    b"\x89PNG": "PNG",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"RIFF": "WebP",
}
_PNG_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}


@dataclass(frozen=True, slots=True)
class Traits:
    """What is trivial about one picture: the `_NUMBERS`, the `_KINDS`, and a grey thumbnail (64, 64) uint8."""

    numbers: tuple[float, ...]
    kinds: tuple[str, ...]
    thumbnail: Grey


@dataclass(frozen=True, slots=True)
class Separation:
    """How well a confounder tells a group of pictures from the reference: AUROC, 0.5 to 1.

    `how` says how the group differs.
    """

    confounder: str
    auroc: float
    how: str


@dataclass(frozen=True)
class Comparison:
    """Every confounder on `group` pictures against `reference` ones: how many there are; none where one has none."""

    reference: int
    group: int
    confounders: Sequence[Separation]

    @property
    def bound(self) -> float:
        """The AUROC from which a confounder counts: it is no trifle, and no chance."""
        return max(NOTABLE, chance_bound(self.reference, self.group))

    @property
    def found(self) -> list[Separation]:
        """The confounders that count, the strongest first."""
        return sorted((one for one in self.confounders if one.auroc >= self.bound), key=lambda one: -one.auroc)


def read_traits(path: Path, bit_depth: BitDepth | None = None) -> Traits:
    """Read and decode one picture; `bit_depth` is that of samples that lie in 16 bits.

    Raises:
        DataError: the file cannot be read.
        FrameError: it is no picture.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    picture = decode_picture(data, bit_depth=bit_depth)
    grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
    return Traits((*_pixel_numbers(picture, grey), float(len(data))), _encoding(data), thumbnail(grey))


def compare(reference: Sequence[Traits], group: Sequence[Traits]) -> Comparison:
    """Try each confounder as a detector of the group among the reference, in the order of `CONFOUNDERS`."""
    if not reference or not group:
        return Comparison(len(reference), len(group), ())
    numbers = zip(_NUMBERS, _numbers_of(reference), _numbers_of(group), strict=True)
    kinds = zip(_KINDS, _kinds_of(reference), _kinds_of(group), strict=True)
    confounders = [_by_number(*confounder, ours, theirs) for confounder, ours, theirs in numbers]
    confounders += [_by_kind(name, ours, theirs) for name, ours, theirs in kinds]
    return Comparison(len(reference), len(group), confounders)


def chance_bound(reference: int, group: int, error: float = 0.01) -> float:
    """The AUROC that none of the `CONFOUNDERS` exceeds by chance, but for a share `error` of all sets of this size.

    The Mann-Whitney statistic without a difference has the variance (n + m + 1) / 12nm; the error is divided among
    the confounders and both directions (Bonferroni). From 1 on, there are too few pictures to tell.
    """
    if not reference or not group:
        return 1.0
    deviation = sqrt((reference + group + 1) / (12 * reference * group))
    return 0.5 + NormalDist().inv_cdf(1 - error / (2 * len(CONFOUNDERS))) * deviation


def _pixel_numbers(picture: Picture, grey: Grey) -> tuple[float, ...]:
    """All `_NUMBERS` but the file's size."""
    height, width = grey.shape
    mean, deviation = cv2.meanStdDev(grey)
    c, e = max(1, min(height, width) // 8), max(1, min(height, width) // 32)  # sides of a corner, width of an edge
    corners = (grey[:c, :c], grey[:c, -c:], grey[-c:, :c], grey[-c:, -c:])
    edges = (grey[:e], grey[-e:], grey[:, :e], grey[:, -e:])
    return (
        float(mean[0, 0]),
        float(deviation[0, 0]),
        float(np.mean([corner.mean() for corner in corners])),
        float(np.mean([edge.mean() for edge in edges])),
        float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_32F))[1][0, 0] ** 2),
        float(cv2.mean(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV))[1]),
        float(width * height),
        width / height,
    )


def _encoding(data: bytes) -> tuple[str, str]:
    """The file's format, and how it is compressed: a JPEG's quantisation tables, a PNG's depth and colours."""
    name = next((name for magic, name in _FORMATS.items() if data.startswith(magic)), "other")
    if name == "JPEG":
        tables = b"".join(data[one.start : one.end] for one in segments(data) if one.marker == DQT)
        return name, f"JPEG with tables {zlib.crc32(tables):08x}"
    if name == "PNG":
        return name, f"{data[24]}-bit {_PNG_COLOURS.get(data[25], 'unknown')} PNG"
    return name, name


def _numbers_of(pictures: Sequence[Traits]) -> npt.NDArray[np.float64]:
    return np.asarray(list(zip(*(one.numbers for one in pictures), strict=True)), np.float64)


def _kinds_of(pictures: Sequence[Traits]) -> list[tuple[str, ...]]:
    return list(zip(*(one.kinds for one in pictures), strict=True))


def _by_number(
    confounder: str, more: str, less: str, reference: npt.NDArray[np.float64], group: npt.NDArray[np.float64]
) -> Separation:
    found = auroc(reference, group)
    return Separation(confounder, found, more) if found >= 0.5 else Separation(confounder, 1 - found, less)


def _by_kind(confounder: str, reference: Sequence[str], group: Sequence[str]) -> Separation:
    """Score a kind by how much commoner it is in the group, learned on one half and tried on the other.

    Learned and tried on the same pictures, a confounder that is different for every picture would seem perfect.
    """
    halves = [(reference[::2], group[::2]), (reference[1::2], group[1::2])]
    tried = [
        auroc(_excess(seen, ours), _excess(seen, theirs))
        for (ours, theirs), seen in zip(halves, reversed(halves), strict=True)
        if len(ours) and len(theirs)
    ]
    commonest = max(sorted(set(group)), key=lambda kind: _excess((reference, group), [kind])[0])
    return Separation(confounder, max(0.5, sum(tried) / max(1, len(tried))), f"more often {commonest}")


def _excess(seen: tuple[Sequence[str], Sequence[str]], kinds: Sequence[str]) -> npt.NDArray[np.float64]:
    """For each of `kinds`, its share in the second of `seen` less its share in the first."""
    reference, group = seen
    excess = {kind: group.count(kind) / max(1, len(group)) for kind in set(group)}
    for kind in set(reference):
        excess[kind] = excess.get(kind, 0.0) - reference.count(kind) / max(1, len(reference))
    return np.array([excess.get(kind, 0.0) for kind in kinds], np.float64)
