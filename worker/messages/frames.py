"""A frame as it came: its bytes, its place in the stream, and what its headers say."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TypeVar

from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.picture import RawFormat
from quarterturn.worker.contract.times import parse_time

UNREADABLE = "\x1a"
"""Stands in a header's name for what was not UTF-8 there (U+001A, SUBSTITUTE)."""

MAX_HEADER_BYTES = 1024
"""Of the record's key and of each header that is read: they come back in results, logs and metrics."""

Value = TypeVar("Value")

_CORRECT_IT = "correct the camera's publisher"
_RAW_HEADERS = ("width", "height", "pixel_format")

HEADERS = ("camera", "product", "part_id", "captured_at", "simulated", *_RAW_HEADERS)
"""The headers that are read, by their exact names."""

_YES_OR_NO = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class Position:
    """Where a frame stands in its stream. `topic_id` tells a topic from one of the same name that was there before.

    `stretch` changes where frames of the partition were given to somebody else since the last one, or were lost: what
    was known of their cameras is out of date. It does not tell two positions apart.
    """

    topic: str
    partition: int
    offset: int
    topic_id: str | None = None
    stretch: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """What a frame's headers say. `captured_at` is ISO 8601 as the camera wrote it."""

    camera: str
    product: str | None
    part_id: str | None
    captured_at: str | None
    simulated: bool
    raw: RawFormat | None

    def age_ms(self) -> float:
        """How long ago the frame was captured; a time without a zone is UTC. One in the future is now.

        Raises:
            FrameError: `bad_header`: nobody says when.
        """
        if self.captured_at is None:
            raise FrameError("bad_header", "header 'captured_at' is missing, and the camera has a max_age_ms; send it")
        return max(0.0, (datetime.now(timezone.utc) - parse_time(self.captured_at)).total_seconds() * 1000)


@dataclass(frozen=True, slots=True)
class Legible:
    """What can be read of a frame's headers, where not all of them can; what cannot is None."""

    camera: str | None
    product: str | None
    part_id: str | None
    captured_at: str | None
    simulated: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture as it came, with its place in the stream; nothing is decoded yet.

    `fault` is what the transport found wrong with it already, such as a record that cannot be unpacked.
    """

    position: Position
    key: bytes | None
    headers: Mapping[str, bytes]
    data: bytes
    fault: FrameError | None = None

    def info(self) -> FrameInfo:
        """Read the headers: camera (or the record's key), product, part_id, captured_at, simulated; raw pixels' shape.

        Raises:
            FrameError: `bad_header`; the text names the header. Or the frame's `fault`.
        """
        if self.fault is not None:
            raise self.fault
        for name in self.headers:
            if UNREADABLE in name:
                raise FrameError("bad_header", f"the header name {name[:40]!r} is not UTF-8; {_CORRECT_IT}")
        return FrameInfo(
            camera=self._camera(),
            product=self._product(),
            part_id=self._part_id(),
            captured_at=self._captured_at(),
            simulated=self._simulated(),
            raw=self._raw_format(),
        )

    def legible(self) -> Legible:
        """Read the headers as `info` does, each for itself: for the dead letter of a frame with a bad one."""
        return Legible(
            camera=_unless_bad(self._camera),
            product=_unless_bad(self._product),
            part_id=_unless_bad(self._part_id),
            captured_at=_unless_bad(self._captured_at),
            simulated=_unless_bad(self._simulated) or False,
        )

    def _camera(self) -> str:
        if self.key and len(self.key) > MAX_HEADER_BYTES:
            raise _too_long("the record's key", self.key)
        camera = self._text("camera") or (self._decode("the record's key", self.key) if self.key else None)
        if not camera or camera.isspace():
            raise FrameError("bad_header", "neither a header 'camera' nor a record key names the camera; set one")
        return _printable("camera", camera)

    def _product(self) -> str | None:
        return _printable("product", self._text("product") or "") or None

    def _part_id(self) -> str | None:
        return self._text("part_id")

    def _simulated(self) -> bool:
        text = self._text("simulated") or "false"
        if (simulated := _YES_OR_NO.get(text.lower())) is None:
            raise FrameError("bad_header", f"header 'simulated' is {text[:40]!r}, which is neither true nor false")
        return simulated

    def _text(self, name: str) -> str | None:
        value = self.headers.get(name)
        return self._decode(f"header '{name}'", value) if value else None

    @staticmethod
    def _decode(what: str, value: bytes) -> str:
        if len(value) > MAX_HEADER_BYTES:
            raise _too_long(what, value)
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise FrameError("bad_header", f"{what} is not UTF-8 text; {_CORRECT_IT}") from None

    def _captured_at(self) -> str | None:
        text = self._text("captured_at")
        if text is None:
            return None
        try:
            parse_time(text)
        except ValueError:
            what = f"header 'captured_at' is {text[:40]!r}"
            raise FrameError("bad_header", f"{what}, which is no ISO 8601 time such as 2026-01-02T03:04:05Z") from None
        return text

    def _raw_format(self) -> RawFormat | None:
        values = {name: self._text(name) for name in _RAW_HEADERS}
        if not any(values.values()):
            return None
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise FrameError(
                "bad_header", f"raw pixels need the headers width, height and pixel_format; {missing[0]} is missing"
            )
        numbers = [values[name] or "" for name in ("width", "height")]
        if not all(re.fullmatch(r"-?[0-9]+", number) for number in numbers):
            raise FrameError("bad_header", "the headers width and height must be whole numbers")
        return RawFormat(int(numbers[0]), int(numbers[1]), values["pixel_format"] or "")


def _unless_bad(read: Callable[[], Value]) -> Value | None:
    try:
        return read()
    except FrameError:
        return None


def _printable(what: str, name: str) -> str:
    """Names stand in logs and metrics, where a line break would pass for another line."""
    if not name.isprintable():
        raise FrameError("bad_header", f"the {what}'s name {name[:40]!r} cannot be printed; {_CORRECT_IT}")
    return name


def _too_long(what: str, value: bytes) -> FrameError:
    return FrameError("bad_header", f"{what} has {len(value)} bytes, more than {MAX_HEADER_BYTES}; {_CORRECT_IT}")
