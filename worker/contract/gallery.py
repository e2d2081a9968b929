"""Small pictures of good parts that travel with a bank, so that a good place can be shown without the data folder.

Shapes: n pictures, V views, M members of a coreset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Picture
from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.framing import MAX_TILES, Framing, fitted, layout_of

LONGEST_PX = 160
"""Of the longer side of a small picture."""

ORIGIN = ("picture", "tile", "row", "column")
"""What is said of where a member of a coreset was seen, see `detectors.Coreset`."""

DTYPES: dict[str, npt.DTypeLike] = {
    "jpegs": np.uint8,
    "ends": np.int64,
    "names": np.uint8,
    "sizes": np.int32,
    "origins": np.int16,
}
"""In which the tensors are written, by the last part of their names."""

SHAPES: dict[str, tuple[int | None, ...]] = {
    "gallery.jpegs": (None,),  # one behind the other
    "gallery.ends": (None,),  # where each of them ends
    "gallery.names": (None,),  # UTF-8, with a NUL behind each
    "gallery.sizes": (None, 2),  # height and width
}

Tensors = Mapping[str, npt.NDArray[Any]]

_QUALITY = 82
_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_FRAMES = range(0xC0, 0xC4)  # markers of JPEG's headers that say the size
_PX = 2**20  # of a side of a picture that was seen: far more than any has


@dataclass(frozen=True, slots=True)
class GoodPicture:
    """A picture that good parts were learned from: its name, its size in pixels as it was looked at, and a small JPEG
    of it, which has at most `LONGEST_PX` on its longer side.
    """

    name: str
    height: int
    width: int
    jpeg: bytes

    @classmethod
    def of(cls, name: str, picture: Picture) -> GoodPicture:
        """That of a picture (H, W, 3) uint8 RGB; what cannot be printed of its name is written in other letters."""
        bgr = cv2.cvtColor(fitted(picture, LONGEST_PX), cv2.COLOR_RGB2BGR)
        jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
        return cls(printable(name), picture.shape[0], picture.shape[1], jpeg)


Gallery = Sequence[GoodPicture]
"""The good pictures of one product that its coresets' members name by their indices."""


def printable(name: str) -> str:
    """`name` as it may stand in a terminal and in a bank: what is no printable character of it is written as \\x1b."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in name) or "?"


def gallery_tensors(gallery: Gallery) -> dict[str, npt.NDArray[Any]]:
    """A gallery by the names of its tensors."""
    names = "".join(f"{one.name}\0" for one in gallery).encode()
    return {
        "gallery.jpegs": np.frombuffer(b"".join(one.jpeg for one in gallery), np.uint8),
        "gallery.ends": np.cumsum([len(one.jpeg) for one in gallery], dtype=np.int64),
        "gallery.names": np.frombuffer(names, np.uint8),
        "gallery.sizes": np.array([(one.height, one.width) for one in gallery], np.int32).reshape(-1, 2),
    }


def gallery_in(tensors: Tensors) -> tuple[GoodPicture, ...]:
    """The inverse of `gallery_tensors`, of tensors that have no `fault`."""
    parts = zip(_names(tensors)[0], tensors["gallery.sizes"].tolist(), _jpegs(tensors), strict=True)
    return tuple(GoodPicture(name, height, width, jpeg) for name, (height, width), jpeg in parts)


def gallery_fault(tensors: Tensors, grids: Mapping[str, int], framing: Framing) -> str | None:
    """What is wrong with one product's gallery whose tensors have the right types and shapes; None if nothing is.

    `grids` are the sides of the grids that members come from, by the names of their `origins`.
    """
    return next(_faults(tensors, grids, framing), None)


def _faults(tensors: Tensors, grids: Mapping[str, int], framing: Framing) -> Iterator[str]:
    """What follows the first is not to be relied on."""
    ends = tensors["gallery.ends"]
    if (ends <= 0).any() or (np.diff(ends) <= 0).any() or ends[-1:].sum() != len(tensors["gallery.jpegs"]):
        yield "gallery.ends does not say where the small pictures end"
    if not all(_is_small_jpeg(one) for one in _jpegs(tensors)):
        yield f"gallery.jpegs holds what is no JPEG of up to {LONGEST_PX} px"
    names, rest = _names(tensors)
    if rest or len(names) != len(ends) or not all(one and one.isprintable() for one in names):
        yield "gallery.names does not name each small picture"
    sizes = tensors["gallery.sizes"]
    if len(sizes) != len(ends) or (sizes < 1).any() or (sizes > _PX).any():
        yield "gallery.sizes does not say how large each picture was"
    tiles = [_tiles_of(height, width, framing) for height, width in sizes.tolist()]
    if 0 in tiles:
        yield "gallery.sizes holds a picture that takes too many tiles"
    for name, grid in grids.items():
        origins = tensors[name].reshape(-1, len(ORIGIN)).astype(np.int64)
        if (wrong := _misplaced(origins, np.array([*tiles, MAX_TILES]), grid)) is not None:
            yield f"{name} names a {wrong} that there is not"


def _misplaced(origins: npt.NDArray[np.int64], tiles: npt.NDArray[np.int64], grid: int) -> str | None:
    """Which part of an origin (m, 4) is beyond what there is.

    `tiles` are how many each picture has; the last, which index -1 finds, is for those that are not shown.
    """
    pictures = origins[:, 0]
    if (pictures < -1).any() or (pictures >= len(tiles) - 1).any():
        return "picture"
    limits = np.stack([tiles[pictures], *[np.full(len(origins), grid)] * 2], axis=1)
    beyond = ((origins[:, 1:] < 0) | (origins[:, 1:] >= limits)).any(axis=0)
    return ORIGIN[1 + int(beyond.argmax())] if beyond.any() else None


def _tiles_of(height: int, width: int, framing: Framing) -> int:
    """How many a picture takes; 0: more than any may."""
    try:
        return len(layout_of(height, width, framing).corners)
    except FrameError:
        return 0


def _names(tensors: Tensors) -> tuple[list[str], str]:
    """Those that end, and what is behind them; what is not UTF-8 becomes characters that cannot be printed."""
    *names, rest = tensors["gallery.names"].tobytes().decode(errors="surrogateescape").split("\0")
    return names, rest


def _jpegs(tensors: Tensors) -> Iterator[bytes]:
    data = tensors["gallery.jpegs"].tobytes()
    return (data[start:end] for start, end in pairwise([0, *tensors["gallery.ends"].tolist()]))


def _is_small_jpeg(data: bytes) -> bool:
    """By its markers (ITU-T T.81, Annex B); nothing is decoded."""
    if not data.startswith(_START) or not data.endswith(_END):
        return False
    place = 2
    while place + 9 <= len(data) and data[place] == _START[0]:
        if data[place + 1] in _FRAMES:
            sides = (int.from_bytes(data[start : start + 2], "big") for start in (place + 5, place + 7))
            return all(1 <= side <= LONGEST_PX for side in sides)
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False
