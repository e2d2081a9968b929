"""Python, the disk and the port."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from rich.filesize import decimal

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.doctor.check import Check, failure
from quarterturn.worker.runtime.server import listen
from quarterturn.worker.settings.worker import HttpSettings, WorkerSettings

_TESTED = ((3, 10), (3, 13))
_SCARCE = 2 * 10**9  # bytes; Kafka, Redis and images share the disk with the worker, and grow
_FULL = 200 * 10**6  # bytes; room for the local copies of a bank
_PATIENCE_S = 2.0  # with whoever holds the port
_ANSWER = 10_000  # bytes of a worker's answer, and more


def _free(path: Path) -> int:
    return shutil.disk_usage(path).free


def python(version: tuple[int, int] = sys.version_info[:2]) -> Check:
    """Whether the worker is tested with this Python."""
    found = (
        f"{platform.python_version()} on {platform.machine()}, Quarterturn {importlib.metadata.version('quarterturn')}"
    )
    oldest, newest = (".".join(map(str, tested)) for tested in _TESTED)
    if _TESTED[0] <= version <= _TESTED[1]:
        return Check("Python", "ok", found)
    return Check("Python", "warning", f"{found}: not tested with it", f"use Python {oldest} to {newest}")


def disks(settings: WorkerSettings, free: Callable[[Path], int] = _free) -> Iterator[Check]:
    """Whether the worker can write where it does, and has the room."""
    if settings.bank.redis is not None and (snapshot := settings.bank.redis.snapshot) is not None:
        without = "no local copy of a bank is kept to start with while Redis is gone"
        yield _place("bank.redis.snapshot", snapshot, _try_folder, free, without)
    if settings.bank.file is not None:
        yield _place("bank.file.path", settings.bank.file.path, _try_folder, free, "no bank can be pushed")
    if settings.transport.folder is not None:
        yield _place("transport.folder.out", settings.transport.folder.out, _try_file, free)


def http(settings: HttpSettings | None) -> Iterator[Check]:
    """Whether the worker gets its port."""
    if settings is None:
        yield Check("http", "skipped", "not needed: 'http: null'")
        return
    place = f"{settings.host}:{settings.port}"
    try:
        listen(settings, BaseHTTPRequestHandler).server_close()
        yield Check("http", "ok", f"{place} is free" if settings.port else f"{settings.host}, any free port")
    except ConfigError as error:
        if _is_worker(settings):
            yield Check(
                "http", "warning", f"a worker runs at {place}", "if it is another line's, set another http.port"
            )
        else:
            yield failure("http", error)


def _is_worker(settings: HttpSettings) -> bool:
    """Whether a worker answers at the port: then a line runs here already."""
    connection = HTTPConnection(settings.host, settings.port, timeout=_PATIENCE_S)
    with closing(connection), suppress(OSError, HTTPException, ValueError):
        connection.request("GET", "/readyz")
        answer = json.loads(connection.getresponse().read(_ANSWER))
        return isinstance(answer, dict) and "lacks" in answer
    return False


def _place(
    setting: str, path: Path, attempt: Callable[[Path], None], free: Callable[[Path], int], without: str = ""
) -> Check:
    """`without` says what there is not where the place cannot be written; "": the worker does not run at all."""
    try:
        attempt(path)
        return _disk(path, free(_existing(path)))
    except OSError as error:
        found = f"{path}: cannot be written ({error.strerror})"
        fix = f"correct {setting}, or the permissions there"
        return Check("disk", "warning", f"{found}: {without}", fix) if without else Check("disk", "failure", found, fix)


def _try_folder(path: Path) -> None:
    """Write into a folder, or where it is to be made."""
    tempfile.TemporaryFile(dir=_existing(path)).close()


def _try_file(path: Path) -> None:
    """Open a file that is there for writing, and change nothing of it; else try its folder."""
    if path.exists():
        path.open("ab").close()
    else:
        _try_folder(path.parent)


def _existing(path: Path) -> Path:
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())


def _disk(path: Path, free: int) -> Check:
    found = f"{decimal(free)} free for {path}"
    if free >= _SCARCE:
        return Check("disk", "ok", found)
    fix = (
        f"free {decimal(_SCARCE)} there: look with 'du -xh / | sort -h | tail', "
        "'docker image prune' and a shorter retention.ms of the frames topic help most"
    )
    return Check("disk", "warning" if free >= _FULL else "failure", found, fix)
