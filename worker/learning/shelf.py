"""The pictures that people judged, kept in a folder: Kafka forgets them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
from pydantic import ValidationError

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.picture import BitDepth
from quarterturn.worker.contract.settings import Settings
from quarterturn.worker.contract.swap import writing
from quarterturn.worker.messages.events import position_of
from quarterturn.worker.messages.feedback import Feedback
from quarterturn.worker.messages.frames import Frame, FrameInfo
from quarterturn.worker.pictures.decode import decode_picture

_SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"BM": ".bmp", b"RIFF": ".webp"}
_COLON = "+"  # stands for ':' of a result's id, which not every system allows in a file's name


class Note(Settings):
    """The JSON beside a picture.

    `product`: what the part is, or looks like. `declared`: what its frame, or the person, said that it is; None: nobody
    did, so it is judged as any product of its camera. `stray`: it is bad because it is none of those.
    `published_at`: when a version was published that knew this word.
    """

    feedback: Feedback
    product: str
    camera: str
    declared: str | None = None
    stray: bool = False
    published_at: str | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A picture that somebody judged."""

    path: Path
    note: Note

    @property
    def result_id(self) -> str:
        """The result that was judged."""
        return self.note.feedback.result_id

    @property
    def is_good(self) -> bool:
        """What was said last."""
        return self.note.feedback.verdict == "good"

    def frame(self) -> Frame:
        """The picture as a frame of its camera.

        Raises:
            DataError: the file cannot be read.
        """
        headers = {"camera": self.note.camera.encode()}
        if self.note.declared is not None:
            headers["product"] = self.note.declared.encode()
        try:
            return Frame(position_of(self.result_id), None, headers, self.path.read_bytes())
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror}); check its permissions") from error


class Shelf:
    """`<folder>/<product>/<result id>.<jpg, png, ...>`, and a JSON of the same name beside each.

    Raises:
        DataError: from every method: something in the folder cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> dict[str, Kept]:
        """What is kept, by the results' ids, in their order."""
        found = {}
        for path in self._folder.glob("*/*.json"):
            kept = self._read(path)
            found[kept.result_id] = kept
        return dict(sorted(found.items()))

    def put(self, frame: Frame, info: FrameInfo, note: Note, bit_depth: BitDepth | None) -> Kept:
        """Keep the picture of `frame`: a file as it came, raw pixels as a PNG."""
        data, suffix = frame.data, _suffix(frame.data)
        if info.raw is not None:
            picture = cv2.cvtColor(decode_picture(data, info.raw, bit_depth), cv2.COLOR_RGB2BGR)
            data, suffix = cv2.imencode(".png", picture)[1].tobytes(), ".png"
        kept = Kept(self._path(note, suffix), note)
        _write(kept.path, data)
        self._describe(kept)
        return kept

    def change(self, kept: Kept, note: Note) -> Kept:
        """Another note for a picture that is there."""
        changed = replace(kept, path=self._path(note, kept.path.suffix), note=note)
        if changed.path != kept.path:
            _write(changed.path, kept.path.read_bytes())
        self._describe(changed)
        if changed.path != kept.path:
            kept.path.unlink()
            kept.path.with_suffix(".json").unlink()
        return changed

    def _path(self, note: Note, suffix: str) -> Path:
        return self._folder / note.product / f"{note.feedback.result_id.replace(':', _COLON)}{suffix}"

    def _describe(self, kept: Kept) -> None:
        document = kept.note.model_dump(mode="json", by_alias=True)
        _write(kept.path.with_suffix(".json"), (json.dumps(document, indent=2) + "\n").encode())

    def _read(self, path: Path) -> Kept:
        try:
            note = Note.model_validate_json(path.read_bytes())
            (picture,) = (one for one in path.parent.glob(f"{path.stem}.*") if one.suffix in _ALL_SUFFIXES)
        except (OSError, ValueError, ValidationError):
            raise DataError(f"{path}: is no note beside a picture; restore it, or remove both") from None
        return Kept(picture, note)


_ALL_SUFFIXES = {*_SUFFIXES.values(), ".tif"}


def _suffix(data: bytes) -> str:
    return next((suffix for begin, suffix in _SUFFIXES.items() if data.startswith(begin)), ".tif")


def _write(path: Path, data: bytes) -> None:
    try:
        with writing(path) as aside:
            aside.write_bytes(data)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); set 'learned' to another folder") from error


def by_product(kept: Mapping[str, Kept]) -> dict[str, list[Kept]]:
    """What is kept, by product; strays are defects of none."""
    found: dict[str, list[Kept]] = {}
    for one in kept.values():
        if not one.note.stray:
            found.setdefault(one.note.product, []).append(one)
    return found
