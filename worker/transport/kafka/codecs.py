"""Compressed records: unpacked within bounds, so that what is small on the way is not without limit here."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from types import ModuleType

import numpy as np

from quarterturn.worker.contract.errors import FrameError

PACKAGE = "cramjam"
"""What reads snappy, lz4 and zstd; Python brings gzip along."""

CODECS = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
"""Kafka's number of each codec (KIP-110)."""

MAX_UNPACKED_BYTES = 128 * 2**20
"""Of a batch of records: a hundred kilobytes can be made that unpack to a hundred gigabytes."""

_XERIAL = b"\x82SNAPPY\x00"  # Java cuts what it compresses into blocks; version and size of the header follow
_XERIAL_HEADER = 16


def lacking() -> list[str]:
    """The codecs that cannot be read here, because PACKAGE is missing."""
    return [name for name in CODECS.values() if name != "gzip"] if _package() is None else []


def unpack(codec: int, packed: bytes) -> bytearray:
    """The records of a batch.

    Raises:
        FrameError: `not_unpacked`: they are damaged, too large unpacked, or of a codec that cannot be read here.
    """
    name = CODECS.get(codec)
    if name is None or name in lacking():
        cure = f"install '{PACKAGE}'" if name else "update quarterturn"
        raise FrameError(
            "not_unpacked",
            f"it is compressed with {name or f'codec {codec}'}, which cannot be read here; {cure}, or set "
            "compression.type=uncompressed for the frames topic, and publish it again",
        )
    package = _package()
    faults: tuple[type[Exception], ...] = (EOFError, OSError, OverflowError, zlib.error, struct.error)
    if package is not None:
        faults += (package.DecompressionError,)
    try:
        return _gunzip(packed) if package is None or name == "gzip" else _unpack(package, name, packed)
    except faults as error:
        raise FrameError(
            "not_unpacked",
            f"it is compressed with {name} and cannot be unpacked into {MAX_UNPACKED_BYTES:,} bytes ({error}); "
            "publish it again, without compression",
        ) from None


def _package() -> ModuleType | None:
    try:
        import cramjam
    except ImportError:
        return None
    return cramjam


def _gunzip(packed: bytes) -> bytearray:
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as unpacking:
        unpacked = unpacking.read(MAX_UNPACKED_BYTES + 1)
    if len(unpacked) > MAX_UNPACKED_BYTES:
        raise OverflowError("there is more")
    return bytearray(unpacked)


def _unpack(package: ModuleType, name: str, packed: bytes) -> bytearray:
    room = np.empty(MAX_UNPACKED_BYTES, np.uint8).data  # takes memory only as it is filled
    length = 0
    if name == "snappy":
        for block in _snappy_blocks(packed):
            length += package.snappy.decompress_raw_into(block, room[length:])
    else:
        length = getattr(package, name).decompress_into(packed, room)
    return bytearray(room[:length])


def _snappy_blocks(packed: bytes) -> Iterator[bytes]:
    """The blocks of Java's framing, or all as one block."""
    if not packed.startswith(_XERIAL):
        yield packed
        return
    position = _XERIAL_HEADER
    while position < len(packed):
        (length,) = struct.unpack_from(">i", packed, position)
        position += 4
        if not 0 < length <= len(packed) - position:
            raise OverflowError(f"a block of {length} bytes")
        yield packed[position : position + length]
        position += length
