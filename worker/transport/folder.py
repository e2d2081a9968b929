"""Pictures of a folder in, JSON lines out: the embedded default, no server."""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from quarterturn.worker.contract.errors import DataError, UnavailableError
from quarterturn.worker.messages.events import Event, Outcome, events_of
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.pictures.sets import list_pictures
from quarterturn.worker.settings.worker import FolderSettings
from quarterturn.worker.transport.base import Standing
from quarterturn.worker.transport.batch import check_delivery

log = logging.getLogger(__name__)

_LAST = ("verdict", "late", "dead_letter")  # of a frame's events
_HEAD = b'{"kind": "'  # how every line begins; a line cut off by a crash may be shorter


class FolderTransport:
    """Each picture below the folder is a frame, in the order of their paths; the path is the frame's part_id.

    Its camera is the one that the settings name, else the sub-folder it lies in, else the folder itself.

    Every line of the out file is one event in CloudEvents' JSON format. The verdict or dead letter of a frame is
    written last, and marks it as done: opened again on the same file, the transport goes on behind it.

    Raises:
        DataError: the folder holds no picture, or the out file belongs to other pictures.
        UnavailableError: the out file cannot be read or written.
    """

    def __init__(self, settings: FolderSettings) -> None:
        self._settings = settings
        self._pictures = list_pictures(settings.path)
        self._topic = _topic(settings)
        self._undelivered: deque[list[Position]] = deque()
        try:
            settings.out.parent.mkdir(parents=True, exist_ok=True)
            done, complete = done_in(settings, self._pictures)
            if settings.out.exists():
                os.truncate(settings.out, complete)  # cuts off what a stopped run left incomplete
            self._out = settings.out.open("ab", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from error
        if done:
            log.info("%s: %d of %d pictures are done already", settings.out, len(done), len(self._pictures))
        self._waiting = deque(index for index in range(len(self._pictures)) if index not in done)

    @property
    def exhausted(self) -> bool:
        """Whether every picture was polled."""
        return not self._waiting

    @property
    def standing(self) -> Standing:
        """See Transport."""
        return Standing(assigned=1, lag={f"{self._topic}[0]": len(self._waiting)})

    def poll(self, max_frames: int, timeout_s: float) -> list[Frame]:
        """See Transport; never waits."""
        count = min(max_frames, len(self._waiting))
        frames = [self._frame(self._waiting.popleft()) for _ in range(count)]
        if frames:
            self._undelivered.append([frame.position for frame in frames])
        return frames

    def deliver(self, outcomes: Sequence[Outcome]) -> None:
        """See Transport."""
        check_delivery(outcomes, self._undelivered[0])
        lines = memoryview(b"".join(_line(event) for outcome in outcomes for event in reversed(events_of(outcome))))
        try:
            while lines:
                lines = lines[self._out.write(lines) :]
        except OSError as error:
            raise self._unwritable(error) from error
        self._undelivered.popleft()

    def close(self) -> None:
        """See Transport."""
        self._out.close()

    def _frame(self, index: int) -> Frame:
        picture = self._pictures[index]
        try:
            data = picture.read_bytes()
        except OSError as error:
            log.warning("%s: cannot be read (%s)", picture, error.strerror)
            data = b""  # becomes a dead letter
        camera = camera_of(picture, self._settings).encode()
        headers = {"camera": camera, "part_id": _part_id(picture, self._settings).encode()}
        return Frame(Position(self._topic, 0, index), camera, headers, data)

    def _unwritable(self, error: OSError) -> UnavailableError:
        return UnavailableError(
            f"{self._settings.out}: cannot be written ({error.strerror}); make room or correct 'out'"
        )


def done_in(settings: FolderSettings, pictures: Sequence[Path]) -> tuple[set[int], int]:
    """The pictures that the out file has results for, and its length in bytes up to the end of these; changes nothing.

    Raises:
        DataError: the file belongs to other pictures, or is no file of results.
        OSError: it cannot be read.
    """
    done: set[int] = set()
    complete = end = 0
    if not settings.out.exists():
        return done, complete
    with settings.out.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            end += len(line)
            if not line.endswith(b"\n") and _HEAD.startswith(line[: len(_HEAD)]):
                break
            kind, index = _parse(line, f"{settings.out}:{number}", settings, pictures)
            if kind in _LAST:
                done.add(index)
                complete = end
    return done, complete


def camera_of(picture: Path, settings: FolderSettings) -> str:
    """The camera of a picture below the folder: that of the settings, else its sub-folder, else the folder itself."""
    sub_folder, *within = picture.relative_to(settings.path).parts
    return settings.camera or (sub_folder if within else settings.path.resolve().name)


def _topic(settings: FolderSettings) -> str:
    return settings.path.resolve().name


def _part_id(picture: Path, settings: FolderSettings) -> str:
    return picture.relative_to(settings.path).as_posix()


def _parse(line: bytes, where: str, settings: FolderSettings, pictures: Sequence[Path]) -> tuple[str, int]:
    """The kind of one line's event, and which picture it is about."""
    try:
        event = json.loads(line)
        kind, data = event["kind"], event["data"]
        topic, index, part_id = data["frame"]["topic"], data["frame"]["offset"], data.get("partId")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where}: is no result of quarterturn; choose another file for 'out'") from error
    is_ours = topic == _topic(settings) and index in range(len(pictures))
    if not is_ours or part_id not in (None, _part_id(pictures[index], settings)):
        raise DataError(
            f"{where}: belongs to other pictures than those of {settings.path}; "
            "move the file away or choose another one for 'out'"
        )
    return kind, index


def _line(event: Event) -> bytes:
    """One event in CloudEvents' JSON format, with our `kind` as an extension."""
    attributes = {name.removeprefix("ce_"): value.decode() for name, value in event.headers}
    attributes["datacontenttype"] = attributes.pop("content-type")
    return json.dumps({"kind": event.kind, **attributes, "data": json.loads(event.value)}).encode() + b"\n"
