"""Banks in a local folder: the embedded default, and the worker's copy of the last good bank.

Layout: `<path>/<line>/<sha256>.safetensors`, and `<path>/<line>/current`, which holds the active version. A file's
modification time is the time of its push. Processes may share the folder.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from operator import itemgetter
from pathlib import Path

from quarterturn.worker.bankstore.base import BankVersion
from quarterturn.worker.bankstore.versions import find_version, outdated
from quarterturn.worker.contract.bank import Bank, read_bank
from quarterturn.worker.contract.errors import DataError, UnavailableError
from quarterturn.worker.contract.manifest import sha256
from quarterturn.worker.contract.swap import writing
from quarterturn.worker.contract.times import timestamp

_SUFFIX = ".safetensors"
_CURRENT = "current"
_VERSION = "[0-9a-f]{64}"
_SHOWN = 80  # characters of what is no version
_LOOK_S = 0.1  # how often `wait` looks for a change made by another process


class FileBankStore:
    """A BankStore in the folder `path`; keeps the newest `keep` versions of each line, and the one active before."""

    def __init__(self, path: Path, keep: int = 10) -> None:
        self._path = path
        self._keep = keep
        self._closed = False
        self._changed = threading.Condition()

    def current(self, line: str) -> BankVersion | None:
        """The active version, or None if the line has none."""
        with self._reachable():
            version = self._pointer(line)
            if version is None:
                return None
            if not re.fullmatch(_VERSION, version):
                raise DataError(
                    f"{self._folder(line) / _CURRENT}: holds {version[:_SHOWN]!r}, which is no version; take "
                    "one that 'quarterturn bank list' shows with 'quarterturn bank rollback VERSION'"
                )
            try:
                return self._describe(line, version, active=True)
            except FileNotFoundError:
                raise self._gone(line, version) from None

    def load(self, line: str, version: str) -> Bank:
        """The bank of one version, its hash verified."""
        path = self._blob(line, version)
        with self._reachable():
            try:
                blob = path.read_bytes()
            except FileNotFoundError:
                raise self._gone(line, version) from None
        return read_bank(blob, str(path), version)

    def publish(self, line: str, bank: Bank) -> BankVersion:
        """Store `bank` and make it the active version, atomically; tell those who wait."""
        blob = bank.blob
        version = sha256(blob)
        with self._reachable(), self._locked(line):
            before = self._pointer(line)
            _replace(self._blob(line, version), blob)
            os.utime(self._blob(line, version), ns=(time.time_ns(),) * 2)  # finer than the file system's own clock
            _replace(self._folder(line) / _CURRENT, version.encode())
            known = [known.version for known in self._list(line)]
            for old in outdated(known, [version, before or version], self._keep):
                self._blob(line, old).unlink()
            published = self._describe(line, version, active=True)
        self._notify()
        return published

    def versions(self, line: str) -> list[BankVersion]:
        """All versions kept, the newest first."""
        with self._reachable():
            return self._list(line)

    def activate(self, line: str, version: str) -> None:
        """Make a kept version the active one; `version` may be a unique prefix."""
        with self._reachable(), self._locked(line):
            found = find_version([known.version for known in self._list(line)], version, line)
            _replace(self._folder(line) / _CURRENT, found.encode())
        self._notify()

    def wait(self, line: str, timeout_s: float) -> None:
        """Return when the active version may have changed, at the latest after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        with self._reachable(), self._changed:
            before = self._stamp(line)
            while not self._closed and self._stamp(line) == before and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, _LOOK_S))

    def close(self) -> None:
        """End every `wait`; may be called twice."""
        self._closed = True
        self._notify()

    def _folder(self, line: str) -> Path:
        return self._path / line

    def _blob(self, line: str, version: str) -> Path:
        return self._folder(line) / f"{version}{_SUFFIX}"

    def _pointer(self, line: str) -> str | None:
        """What the file `current` holds, without the line feed that editors add."""
        try:
            return (self._folder(line) / _CURRENT).read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return None

    def _stamp(self, line: str) -> tuple[int, int] | None:
        try:
            status = (self._folder(line) / _CURRENT).stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _list(self, line: str) -> list[BankVersion]:
        active = self._pointer(line)
        found: list[tuple[int, BankVersion]] = []
        for path in self._folder(line).glob(f"*{_SUFFIX}"):
            version = path.name.removesuffix(_SUFFIX)
            with suppress(FileNotFoundError):  # dropped meanwhile by another process
                found.append((path.stat().st_mtime_ns, self._describe(line, version, version == active)))
        return [version for _, version in sorted(found, key=itemgetter(0), reverse=True)]

    def _describe(self, line: str, version: str, active: bool) -> BankVersion:
        status = self._blob(line, version).stat()
        return BankVersion(line, version, timestamp(status.st_mtime), status.st_size, active)

    def _gone(self, line: str, version: str) -> DataError:
        return DataError(f"{self._blob(line, version)}: there is no such bank; push one with 'quarterturn bank push'")

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def _locked(self, line: str) -> Iterator[None]:
        """Only one thread of one process changes a line at a time."""
        self._folder(line).mkdir(parents=True, exist_ok=True)
        with (self._folder(line) / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnavailableError(
                f"{error.filename or self._path}: the bank folder cannot be used ({error.strerror}); "
                "check its path, its permissions and the disk"
            ) from error


def _replace(path: Path, data: bytes) -> None:
    with writing(path) as aside:
        aside.write_bytes(data)
