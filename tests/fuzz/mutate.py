"""Changes such as a careless or a hostile sender makes: to any bytes, and to what the bytes of a picture mean."""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Callable

EDGES = (
    b"\0" * 4,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\xff\xff\xff\x7f",
    b"\xff\xd9",
    b"\xfe",
    b"[",
    b"{",
)
NUMBERS = (*range(5), *range(7, 10), 12, 16, 24, 32, 64, 100, 127, 128, 255, 256, 1000, 32767, 65535, 2**31, 2**32 - 1)


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """`data` after one to four changes, whatever it is; `other` is what pieces are taken from."""
    for _ in range(rng.randint(1, 4)):
        place, end = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
        change = rng.randrange(6)
        if change == 0 and data:
            place %= len(data)
            data = data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
        elif change == 1:
            edge = rng.choice(EDGES)
            data = data[:place] + edge + data[place + len(edge) :]
        elif change == 2:
            data = data[: min(place, end)] + data[max(place, end) :]
        elif change == 3:
            data = data[:place] + data[min(place, end) : max(place, end)] * rng.randint(1, 5) + data[place:]
        elif change == 4:
            data = data[:place] + other[rng.randrange(len(other)) :]
        else:
            data = data[:place] + rng.randbytes(rng.randint(1, 8)) + data[place:]
    return data


def jpeg(data: bytes, rng: random.Random) -> bytes:
    """Segments changed, dropped, doubled and moved; scans cut, closed, and filled with markers."""
    parts = re.split(rb"(?=\xff[\xc0-\xcf\xda-\xfe])", data)  # each begins with its marker
    index = rng.randrange(len(parts))
    change = rng.randrange(8)
    if change == 0:
        cut = rng.randrange(len(data))
        return data[:cut] + b"\xff\xd9" + rng.choice((b"", data[cut:], bytes(9)))
    if change == 1:
        parts.pop(index)
    elif change == 2:
        parts.insert(rng.randrange(len(parts)), parts[index] * rng.choice((1, 1, 2, 70)))
    elif change == 3:
        parts[index], parts[-1 - index] = parts[-1 - index], parts[index]
    elif change == 4 and len(parts[index]) > 1:
        parts[index] = b"\xff" + bytes([rng.randrange(0xC0, 0xFF)]) + parts[index][2:]
    elif change == 5:
        place = rng.randrange(len(parts[index]) + 1)
        parts[index] = parts[index][:place] + b"\xff" + bytes([rng.randrange(0xD0, 0xDA)]) + parts[index][place:]
    else:
        parts[index] = _number(parts[index], rng, ">BH")
    return b"".join(parts)


def png(data: bytes, rng: random.Random) -> bytes:
    """Chunks changed, dropped, doubled and moved, most with a checksum that fits again; pixels packed anew."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : end - 4]))
        place = end
    index = rng.randrange(len(chunks))
    kind, held = chunks[index]
    change = rng.randrange(6)
    if change == 0:
        chunks.pop(index)
    elif change == 1:
        chunks.insert(rng.randrange(len(chunks)), chunks[index])
    elif change == 2:
        chunks[index] = (bytes([*kind[:3], kind[3] ^ 1 << rng.randrange(7)]), held)
    elif change == 3 and kind == b"IDAT":
        unpacked = zlib.decompressobj()
        pixels = bytearray(unpacked.decompress(held))
        pixels[rng.randrange(len(pixels))] = rng.randrange(256)
        chunks[index] = (kind, zlib.compress(bytes(pixels)[: rng.choice((len(pixels), rng.randrange(len(pixels))))]))
    else:
        chunks[index] = (kind, _number(held, rng, ">BI"))
    packed = [
        struct.pack(">I", len(inside)) + name + inside + struct.pack(">I", zlib.crc32(name + inside))
        for name, inside in chunks
    ]
    return data[:8] + b"".join(packed)


def tiff(data: bytes, rng: random.Random) -> bytes:
    """Entries of the directory with another tag, kind, count, value or place."""
    order = "<" if data[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, directory)
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        entry = directory + 2 + 12 * rng.randrange(entries)
        field, form = rng.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H"), (8, "I"), (8, "H")))
        value = rng.choice((*NUMBERS, len(data), *range(256, 280), 322, 338))
        struct.pack_into(order + form, changed, entry + field, value % (1 << (16 if form == "H" else 32)))
    return bytes(changed)


def bmp(data: bytes, rng: random.Random) -> bytes:
    """Fields of the header."""
    return _number(data[:54], rng, "<HI") + data[54:]


def webp(data: bytes, rng: random.Random) -> bytes:
    """Sizes of chunks and of the picture, and bytes anywhere, with the size of the whole set right again."""
    place = rng.choice((12, 16, 20, 23, 26, 30))
    changed = data[:place] + _number(data[place : place + 8], rng, "<HI") + data[place + 8 :]
    cut = changed[: rng.choice((len(changed), len(changed), rng.randrange(20, len(changed))))]
    return cut[:4] + struct.pack("<I", max(len(cut) - 8, 0)) + cut[8:]


MUTATIONS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "JPEG": jpeg,
    "PNG": png,
    "TIFF": tiff,
    "BMP": bmp,
    "WEBP": webp,
}


def _number(data: bytes, rng: random.Random, forms: str) -> bytes:
    """`data` with one number of one of the struct `forms`, the first of which is its order, set to another."""
    form = forms[0] + rng.choice(forms[1:])
    size = struct.calcsize(form)
    if len(data) < size:
        return data + bytes([rng.randrange(256)])
    place = rng.randrange(len(data) - size + 1)
    number = rng.choice((*NUMBERS, rng.randrange(256))) % (1 << 8 * size)
    return data[:place] + struct.pack(form, number) + data[place + size :]
