"""A transport of your own, with the worker's loop round it: a folder that pictures keep dropping into.

    python custom_transport.py ENGINE BANK FOLDER

What was inspected has its result beside it, as part.png.json. Ctrl-C ends the worker when what it has read is done.
"""

from __future__ import annotations

import hashlib
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from quarterturn import (
    BatchSettings,
    EngineSettings,
    Frame,
    Health,
    Inspector,
    Outcome,
    Position,
    Service,
    open_engine,
    read_bank_file,
)


class DropFolder:
    """Every picture without a result is a frame. Move pictures in whole: write them elsewhere, then rename them."""

    exhausted = False  # there may always be another one

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._polled: dict[Position, Path] = {}  # and not delivered yet: the worker polls one batch ahead

    def poll(self, max_frames: int, timeout_s: float) -> list[Frame]:
        deadline_s = time.monotonic() + timeout_s
        while not (waiting := self._waiting()) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        return [self._frame(path) for path in waiting[:max_frames]]

    def deliver(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            result = _result(self._polled[outcome.position])
            unfinished = result.with_suffix(".tmp")
            unfinished.write_text(outcome.data.model_dump_json(by_alias=True), encoding="utf-8")
            unfinished.replace(result)  # whole or not at all: the result marks the picture as done
            del self._polled[outcome.position]

    def close(self) -> None:
        """There is nothing to release."""

    def _waiting(self) -> list[Path]:
        taken = set(self._polled.values())
        return [path for path in sorted(self._folder.glob("*.png")) if path not in taken and not _result(path).exists()]

    def _frame(self, path: Path) -> Frame:
        # Made of the name, so that a picture that is inspected again after a power cut gets the same result id.
        offset = int(hashlib.sha256(path.name.encode()).hexdigest()[:12], 16)
        position = Position(self._folder.name, 0, offset)
        self._polled[position] = path
        return Frame(position, None, {"camera": b"top-01", "part_id": path.stem.encode()}, path.read_bytes())


def _result(picture: Path) -> Path:
    return picture.with_name(f"{picture.name}.json")


def main(engine_folder: str, bank_file: str, folder: str) -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    settings = EngineSettings(path=Path(engine_folder))
    with closing(open_engine(settings)) as engine, closing(Inspector(engine, "line-1", overkill=0.05)) as inspector:
        inspector.use(read_bank_file(Path(bank_file)))
        Service(DropFolder(Path(folder)), inspector, Health(), BatchSettings()).run(stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
