"""Millions of damaged pictures: `python -m tests.fuzz.pictures [COUNT] [SEED]`, some 2,000 a second on one core.

Small valid files and raw frames of every kind are changed as `tests/fuzz/mutate.py` does, and decoded. Each must end in
a picture of the right form or in a refusal with a reason, in bounded time and memory, and silently. Input N is the same
in every run with the same SEED; the one at work is named in out/fuzz/pictures-at, should the process die of it.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.picture import RawFormat
from quarterturn.worker.pictures import file
from quarterturn.worker.pictures.decode import decode
from quarterturn.worker.pictures.raw_pixels import PIXEL_FORMATS, format_of
from tests.fuzz.mutate import MUTATIONS, mutated
from tests.hostile import saved
from tests.tiff import RGB, strips, tiff, tiles

AT = Path("out/fuzz/pictures-at")
DEPTHS = (None, None, 10, 12, 14, 16)
REASONS = {
    "empty",
    "truncated",
    "undecodable",
    "too_many_pixels",
    "bad_bit_depth",
    "bad_pixel_format",
    "size_mismatch",
}
_PIXELS = 1_000_000  # the limit of this run, so that none of them takes long; the product's is 100 times that
_LONGEST_S = 5.0
_MOST_GROWN_KIB = 500_000  # of millions of inputs; it stands still after some 100,000

_RNG = np.random.default_rng(0)
_COLOURS = _RNG.integers(0, 256, (13, 19, 3), dtype=np.uint8)
_GREY = _COLOURS[..., 0]
_ALPHA = np.dstack([_COLOURS, _GREY])
_DEEP = _RNG.integers(0, 65536, (13, 19, 3), dtype=np.uint16)


def _jpegs() -> Iterator[bytes]:
    whole, grey = Image.fromarray(_COLOURS), Image.fromarray(_GREY)
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 1}, {"subsampling": 0}, {"optimize": True}):
        yield saved("JPEG", whole, **options)
        yield saved("JPEG", grey, **options)
    yield saved("JPEG", whole.convert("CMYK"))
    yield saved("JPEG", whole, progressive=True, restart_marker_rows=1)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield saved("JPEG", whole, exif=exif, comment=b"\xff\xda\xff\xd9") + saved("JPEG", grey)


def _pngs() -> Iterator[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 8
    for picture in (_COLOURS, _GREY, _ALPHA, np.dstack([_GREY, _GREY]), _DEEP[..., 0]):
        yield saved("PNG", Image.fromarray(picture))
    yield saved("PNG", Image.fromarray(_COLOURS).quantize(16), exif=exif, transparency=bytes(range(16)))
    yield saved("PNG", Image.fromarray(_GREY).convert("1"))
    for deep in (_DEEP, np.dstack([_DEEP, _DEEP[..., 0]])):
        yield cv2.imencode(".png", deep)[1].tobytes()


def _tiffs() -> Iterator[bytes]:
    height, width = _GREY.shape
    for order in "<>":
        colours = {"bits": (8,) * 3, "photometric": RGB, "rows": 4, "order": order}
        yield tiff(strips(_COLOURS, 4), width, height, **colours)
        yield tiff([zlib.compress(b) for b in strips(_COLOURS, 4)], width, height, **colours, compression=8, last=True)
        yield tiff(strips(_GREY, 13), width, height, order=order, photometric=0, tags={274: [6]})
        yield tiff(strips(_DEEP[..., 0], 4, order), width, height, bits=(16,), rows=4, order=order)
        yield tiff(strips(_DEEP, 13, order), width, height, bits=(16,) * 3, photometric=RGB, order=order, last=True)
        yield tiff(strips(_DEEP[..., :2], 4, order), width, height, bits=(16, 16), rows=4, extra=(2,), order=order)
        alpha = {"bits": (8,) * 4, "photometric": RGB, "extra": (2,), "order": order}
        yield tiff(strips(_ALPHA, 13), width, height, **alpha)
        yield tiff([zlib.compress(b) for b in tiles(_ALPHA, 16)], width, height, **alpha, tile=(16, 16), compression=8)
        yield tiff([bytes(width * 3 // 2 * height + height)], width, height, bits=(12,), order=order)
    for compression in ("tiff_lzw", "packbits", "jpeg", "group4"):
        picture = Image.fromarray(_COLOURS).convert("1" if compression == "group4" else "RGB")
        yield saved("TIFF", picture, compression=compression)


def _bmps() -> Iterator[bytes]:
    for mode in ("RGB", "L", "1", "P", "RGBA"):
        yield saved("BMP", Image.fromarray(_COLOURS).convert(mode))


def _webps() -> Iterator[bytes]:
    for picture in (_COLOURS, _ALPHA):
        for options in ({}, {"lossless": True}):
            yield saved("WEBP", Image.fromarray(picture), **options)
    yield saved("WEBP", Image.fromarray(_COLOURS), save_all=True, append_images=[Image.fromarray(_COLOURS[::-1])])


SEEDS: dict[str, tuple[bytes, ...]] = {
    "JPEG": tuple(_jpegs()),
    "PNG": tuple(_pngs()),
    "TIFF": tuple(_tiffs()),
    "BMP": tuple(_bmps()),
    "WEBP": tuple(_webps()),
}


def damaged_file(rng: random.Random) -> bytes:
    """A file that was valid before one or two changes: to its structure, to its bytes, or both."""
    kind = rng.choice(tuple(SEEDS))
    data = rng.choice(SEEDS[kind])
    if rng.random() < 0.7:
        data = MUTATIONS[kind](data, rng)
    if rng.random() < 0.5:
        data = mutated(data, rng.choice(SEEDS[rng.choice(tuple(SEEDS))]), rng)
    return data


def raw_frame(rng: random.Random) -> tuple[bytes, RawFormat]:
    """Raw pixels whose size mostly fits their format."""
    raw = RawFormat(rng.randint(-1, 12), rng.randint(-1, 12), rng.choice((*PIXEL_FORMATS, "YUV422_8")))
    size = rng.randrange(300)
    if raw.pixel_format in PIXEL_FORMATS and rng.random() < 0.8:
        layout = format_of(raw.pixel_format)
        needed = -(-raw.width * raw.height * layout.channels * layout.stored // 8)
        size = max(0, needed + rng.choice((0, 0, 0, 0, -1, 1)))
    data = rng.randbytes(size)
    return bytes(b & 3 for b in data) if rng.random() < 0.3 else data, raw  # small ones, as of few bits


def smaller(data: bytes, factor: int) -> str | tuple[int, int]:
    """Why a file is refused by a decoder that shrinks it where its sides allow; else the size it is said to have."""
    try:
        return decode(data, shrink=lambda high, wide: 1 if high % factor or wide % factor else factor).size
    except FrameError as refusal:
        return refusal.reason


def outcome(rng: random.Random) -> str:
    """Decode one input; what came of it, after a look at whether it may."""
    raw = None
    if rng.random() < 0.2:
        data, raw = raw_frame(rng)
    else:
        data = damaged_file(rng)
        if data.startswith(b"\xff\xd8"):  # a JPEG
            assert smaller(data, rng.choice((2, 4, 8))) == smaller(data, 1)
    try:
        decoded = decode(data, raw, rng.choice(DEPTHS))
    except FrameError as refusal:
        if refusal.reason not in REASONS or len(str(refusal)) > 2000:
            raise AssertionError from refusal
        return refusal.reason
    picture = decoded.picture
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert raw is None or picture.shape[:2] == (raw.height, raw.width)
    assert 0 < picture.shape[0] * picture.shape[1] <= _PIXELS
    assert decoded.bits in (8, 10, 12, 14, 16)
    assert not decoded.is_grey or np.array_equal(picture[..., 0], picture[..., 2])
    return "picture"


def run(count: int, seed: int) -> Counter[str]:
    """How many of `count` inputs came to what.

    Raises:
        AssertionError: one came to something else, took too long or too much memory; the text has its number.
    """
    found: Counter[str] = Counter()
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    AT.parent.mkdir(parents=True, exist_ok=True)
    limit, file.MAX_PIXELS = file.MAX_PIXELS, _PIXELS
    try:
        with AT.open("r+b" if AT.exists() else "w+b", buffering=0) as at:
            for number in range(count):
                os.pwrite(at.fileno(), b"%d of seed %d\n" % (number, seed), 0)
                started_s = time.perf_counter()
                try:
                    found[outcome(random.Random(f"{seed}/{number}"))] += 1
                except Exception as error:
                    raise AssertionError(f"input {number} of seed {seed}: {type(error).__name__}: {error}") from error
                assert time.perf_counter() - started_s < _LONGEST_S, f"input {number} of seed {seed} takes too long"
    finally:
        file.MAX_PIXELS = limit
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert grown_kib < _MOST_GROWN_KIB, f"memory grew by {grown_kib} KiB"
    return found


@contextlib.contextmanager
def spoken() -> Iterator[list[str]]:
    """What the libraries write to stderr themselves; libpng's lines are left out.

    It writes one where the checksums of a damaged PNG fit, which only a sender of ill will can bring about.
    """
    lines: list[str] = []
    with tempfile.TemporaryFile() as file:
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            lines += {line for line in file.read().decode("utf-8", "replace").splitlines() if "libpng" not in line}


def main(arguments: list[str]) -> int:
    """Run, print how many inputs came to what, and fail where a library spoke."""
    count, seed = (int(given) for given in (arguments + ["1000000", "0"][len(arguments) :])[:2])
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    cv2.setNumThreads(1)
    started_s = time.perf_counter()
    with spoken() as lines:
        found = run(count, seed)
    print(f"{count} inputs in {time.perf_counter() - started_s:.0f} s: {dict(found.most_common())}")
    print(f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB in memory")
    for line in lines[:20]:
        print(f"written to stderr: {line}")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
