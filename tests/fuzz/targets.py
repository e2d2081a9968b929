"""What is fuzzed: each target takes any bytes, and may refuse them only with the errors of its place."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from quarterturn.worker.contract.bank import read_bank
from quarterturn.worker.contract.decode import BitDepth, decode_picture
from quarterturn.worker.contract.errors import ConfigError, DataError, FrameError
from quarterturn.worker.contract.framing import Framing, cut
from quarterturn.worker.contract.manifest import EngineManifest, TargetManifest, read_manifest
from quarterturn.worker.contract.raw_pixels import PIXEL_FORMATS, RawFormat, format_of
from quarterturn.worker.contract.settings import load_settings
from quarterturn.worker.inspection.judge import Judge
from quarterturn.worker.messages.frames import Frame, FrameInfo, Position
from quarterturn.worker.settings.worker import WorkerSettings
from tests import hostile
from tests.parts import NumpyEngine, bank_of

_NAMES = ("camera", "product", "part_id", "captured_at", "simulated", "width", "height", "pixel_format", "caf\x1a")
_FOLDER = Path(tempfile.mkdtemp(prefix="quarterturn-fuzz-"))
_SMALL = hostile.PICTURE.resize((9, 7))
_DEPTHS: tuple[BitDepth | None, ...] = (None, 10, 12, 14, 16)
_LIMIT_BYTES = 100_000_000 * 3


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


def _bank_blob() -> bytes:
    return bank_of(NumpyEngine(dimensions=2, views=1), count=12).blob


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
    "bank": Target(bank, (_bank_blob(),)),
    "manifest": Target(manifest, (_manifest_json(),)),
    "config": Target(config, (Path("configs/worker.yaml").read_bytes(),)),
}
