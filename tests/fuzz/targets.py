"""What is fuzzed: each target takes any bytes, and may refuse them only with the errors of its place."""

from __future__ import annotations

import contextlib
import gzip
import json
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import crc32c
import numpy as np
from cramjam import lz4, snappy, zstd
from kafka.consumer.fetcher import ConsumerRecord
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder
from PIL import Image

from quarterturn.worker.contract.bank import ScoringSettings, read_bank
from quarterturn.worker.contract.errors import ConfigError, DataError, FrameError
from quarterturn.worker.contract.framing import Framing, cut
from quarterturn.worker.contract.manifest import EngineManifest, TargetManifest, read_manifest
from quarterturn.worker.contract.picture import BitDepth, RawFormat
from quarterturn.worker.contract.settings import load_settings
from quarterturn.worker.contract.times import parse_time
from quarterturn.worker.inspection.judge import Judge
from quarterturn.worker.messages.frames import Frame, FrameInfo, Position
from quarterturn.worker.pictures.decode import decode_picture
from quarterturn.worker.pictures.raw_pixels import PIXEL_FORMATS, format_of
from quarterturn.worker.settings.worker import WorkerSettings
from quarterturn.worker.transport.kafka.records import frame_of
from tests import hostile
from tests.parts import NumpyEngine, NumpyPlacesEngine, bank_of

_NAMES = ("camera", "product", "part_id", "captured_at", "simulated", "width", "height", "pixel_format", "caf\x1a")
_FOLDER = Path(tempfile.mkdtemp(prefix="quarterturn-fuzz-"))
_SMALL = hostile.PICTURE.resize((9, 7))
_DEPTHS: tuple[BitDepth | None, ...] = (None, 10, 12, 14, 16)
_LIMIT_BYTES = 100_000_000 * 3
_BATCH_HEADER = struct.pack(">qiibIhiqqqhii", 0, 0, 0, 2, 0, 0, 2, 1000, 1000, -1, -1, -1, 3)


@dataclass(frozen=True)
class Target:
    """`run` takes any bytes; `seeds` are some that it accepts."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def picture(data: bytes) -> None:
    """The decoder's front, and the cutting behind it."""
    with contextlib.suppress(FrameError):
        decoded = decode_picture(data)
        assert decoded.ndim == 3
        assert decoded.shape[2] == 3
        assert decoded.nbytes <= _LIMIT_BYTES
        for fit in ("stretch", "letterbox", "tiles"):
            with contextlib.suppress(FrameError):
                cut(decoded, Framing(side=32, fit=fit))


def raw_pixels(data: bytes) -> None:
    """Raw pixels of any size, format and depth."""
    if len(data) >= 6:
        width, height = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little")
        raw, depth = RawFormat(width, height, PIXEL_FORMATS[data[4] % len(PIXEL_FORMATS)]), _DEPTHS[data[5] % 5]
        with contextlib.suppress(FrameError):
            assert decode_picture(data[6:], raw, depth).shape == (height, width, 3)


def headers(data: bytes) -> None:
    """A record's key and headers, parted by 0xFE: each begins with its name's number."""
    key, *parts = data.split(b"\xfe")
    named = {_NAMES[part[0] % len(_NAMES)]: part[1:] for part in parts if part}
    with contextlib.suppress(FrameError):
        info = Frame(Position("frames", 0, 0), key or None, named, b"").info()
        assert isinstance(info, FrameInfo)
        assert info.camera


def record_batch(data: bytes) -> None:
    """What is behind the header of a batch of three records (KIP-98); the first byte is its codec."""
    if not data:
        return
    batch = bytearray(_BATCH_HEADER + data[1:])
    struct.pack_into(">i", batch, 8, len(batch) - 12)
    struct.pack_into(">h", batch, 21, data[0] % 8)
    struct.pack_into(">I", batch, 17, crc32c.crc32c(bytes(batch[21:])))
    (read,) = MemoryRecords(bytes(batch))
    assert read.validate_crc()
    records = [
        frame_of(ConsumerRecord("t", 0, 0, r.offset, 0, 0, r.key, r.value, r.headers, 0, 0, 0, 0), None) for r in read
    ]
    assert [record.position.offset for record in records] == [0, 1, 2]
    for record in records:
        record.legible()


def time_of_day(data: bytes) -> None:
    """A time as somebody writes it."""
    with contextlib.suppress(ValueError):
        assert parse_time(data.decode("utf-8", "replace")).tzinfo is not None


def bank(data: bytes) -> None:
    """A bank's blob; one that is accepted can be put into service."""
    with contextlib.suppress(DataError):
        Judge.of(read_bank(data, "bank"), 0.1, {})


def manifest(data: bytes) -> None:
    """The manifest of an engine."""
    (_FOLDER / "manifest.json").write_bytes(data)
    with contextlib.suppress(DataError):
        read = read_manifest(_FOLDER, EngineManifest, "quarterturn build")
        assert read.targets.keys() >= set()


def config(data: bytes) -> None:
    """A worker's settings."""
    path = _FOLDER / "worker.yaml"
    path.write_bytes(data)
    with contextlib.suppress(ConfigError):
        load_settings(path, WorkerSettings)


def _batch(codec: int) -> bytes:
    builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=2**16)
    for _ in range(3):
        builder.append(1000, b"top-01", b"picture" * 20, [("camera", b"top-01"), ("part_id", b"SN-1")])
    builder.close()
    records: bytes = builder.buffer()[len(_BATCH_HEADER) :]
    compress = {0: bytes, 1: gzip.compress, 2: snappy.compress_raw, 3: lz4.compress, 4: zstd.compress}[codec]
    return bytes([codec]) + bytes(compress(records))


def _bank_blobs() -> tuple[bytes, ...]:
    """One by the whole frame alone, and one that has a coreset and shows pictures."""
    nearest = ScoringSettings(detectors=("nearest.deep",), coreset=3)
    places = NumpyPlacesEngine(depths={"deep": 2}, dimensions=2, views=1)
    return (
        bank_of(NumpyEngine(dimensions=2, views=1), count=12).blob,
        bank_of(places, count=12, scoring=nearest).blob,
    )


def _manifest_json() -> bytes:
    target = TargetManifest(precision="float32", files=("model.onnx",), parity=1.0)
    spec = NumpyEngine().spec
    made = EngineManifest(
        spec=spec,
        model="m" * 64,
        products=("ring",),
        holdout=0.2,
        targets={"onnxruntime": target},
        files={"model.onnx": "c" * 64},
        created_at="2026-01-01T00:00:00Z",
    )
    return json.dumps(made.model_dump(mode="json")).encode()


_PICTURES = (
    *(hostile.saved(kind, _SMALL) for kind in ("JPEG", "PNG", "BMP", "TIFF", "WEBP")),
    hostile.saved("JPEG", _SMALL, progressive=True),
    hostile.saved("WEBP", _SMALL, lossless=True),
    hostile.saved("TIFF", _SMALL, compression="tiff_lzw"),
    hostile.saved("PNG", _SMALL.convert("P")),
    hostile.saved("BMP", _SMALL.convert("1")),
    hostile.saved("JPEG", _SMALL.convert("CMYK")),
    hostile.saved("PNG", Image.fromarray(np.arange(63, dtype=np.uint16).reshape(7, 9) * 999)),
)

TARGETS: dict[str, Target] = {
    "picture": Target(picture, _PICTURES),
    "raw_pixels": Target(
        raw_pixels,
        (
            b"\x03\0\x02\0\0\0" + bytes(6),
            *(
                bytes([4, 0, 2, 0, number, 2]) + bytes(format_of(name).stored * format_of(name).channels)
                for number, name in enumerate(PIXEL_FORMATS)
            ),
        ),
    ),
    "headers": Target(
        headers,
        (
            b"top-01\xfe\x00top\xfe\x01ring\xfe\x032026-01-02T03:04:05Z\xfe\x04true",
            b"k\xfe\x0564\xfe\x0648\xfe\x07Mono8",
        ),
    ),
    "record_batch": Target(record_batch, tuple(map(_batch, range(5)))),
    "time_of_day": Target(
        time_of_day, (b"2026-01-02T03:04:05.1234567Z", b"20260102 030405,5+0100", b"2026-01-02T03:04+01:00[UTC]")
    ),
    "bank": Target(bank, _bank_blobs()),
    "manifest": Target(manifest, (_manifest_json(),)),
    "config": Target(config, (Path("configs/worker.yaml").read_bytes(),)),
}
