"""Python and the disk."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.filesize import decimal

from quarterturn.worker.doctor.check import Check
from quarterturn.worker.settings.worker import WorkerSettings

_TESTED = ((3, 10), (3, 13))
_SCARCE = 2 * 10**9  # bytes; Kafka, Redis and images share the disk with the worker, and grow
_FULL = 200 * 10**6  # bytes; room for the local copies of a bank


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
    """Free space where the worker writes."""
    folders = []
    if settings.bank.redis is not None and settings.bank.redis.snapshot is not None:
        folders.append(settings.bank.redis.snapshot)
    if settings.bank.file is not None:
        folders.append(settings.bank.file.path)
    if settings.transport.folder is not None:
        folders.append(settings.transport.folder.out)
    for path in folders:
        existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
        yield _disk(path, free(existing))


def _disk(path: Path, free: int) -> Check:
    found = f"{decimal(free)} free for {path}"
    if free >= _SCARCE:
        return Check("disk", "ok", found)
    fix = (
        f"free {decimal(_SCARCE)} there: look with 'du -xh / | sort -h | tail', "
        "'docker image prune' and a shorter retention.ms of the frames topic help most"
    )
    return Check("disk", "warning" if free >= _FULL else "failure", found, fix)
