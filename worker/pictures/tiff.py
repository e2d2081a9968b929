"""What a TIFF file says of itself (TIFF 6.0); of a JPEG the EXIF block, which is a TIFF file without pixels."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIPS, ORIENTATION, SAMPLES, STRIP_ROWS, STRIP_SIZES, PLANES, PREDICTOR = 273, 274, 277, 278, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_SIZES, EXTRA_SAMPLES, SAMPLE_FORMAT = 322, 323, 324, 325, 338, 339

_FORMATS = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT, LONG

Place = tuple[str, int, int]
"""Of a tag the struct format of its values ("": no whole numbers), their count, and where the first stands."""


@dataclass(frozen=True, slots=True)
class Tiff:
    """The first directory of the TIFF file in `data`; `order` is "<" or ">", that of its bytes."""

    data: bytes
    order: str
    places: Mapping[int, Place]

    @classmethod
    def read(cls, data: bytes) -> Tiff | None:
        """The directory; None where a tag stands there twice, of which readers might take different ones.

        Raises:
            struct.error: it lies outside of the file.
        """
        order = "<" if data.startswith(b"II") else ">"
        (directory,) = struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}H", data, directory)
        places: dict[int, Place] = {}
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, count, place = struct.unpack_from(f"{order}HHII", data, entry)
            form = _FORMATS.get(kind, "")
            inside = count * struct.calcsize(form) <= 4
            places[tag] = (form, count, entry + 8 if inside else place)
        return cls(data, order, places) if len(places) == entries else None

    def numbers(self, tag: int) -> tuple[int, ...]:
        """The values of a tag, none where it is missing.

        Raises:
            struct.error: they lie outside of the file, or are no whole numbers.
        """
        form, count, place = self.places.get(tag, ("B", 0, 0))
        if not form or count > len(self.data):
            raise struct.error
        return struct.unpack_from(f"{self.order}{count}{form}", self.data, place)

    def number(self, tag: int, default: int) -> int:
        """The first value of a tag; raises as `numbers` does."""
        return (*self.numbers(tag), default)[0]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture, or of a tile where that is larger, since it is decoded as a whole."""
        picture = self.number(WIDTH, 0), self.number(HEIGHT, 0)
        tile = self.number(TILE_WIDTH, 0), self.number(TILE_HEIGHT, 0)
        pixels = picture[0] * picture[1]
        return tile if 0 < pixels < tile[0] * tile[1] else picture

    @property
    def orientation(self) -> int:
        """1 to 8 as EXIF counts them; 1 is upright."""
        return self.number(ORIENTATION, 1)
