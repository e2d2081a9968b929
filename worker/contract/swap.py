"""Artifacts on disk appear whole or not at all: made aside, then put in the place of what was there."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.manifest import MANIFEST


def require_replaceable(out: Path, what: str) -> None:
    """Refuse to replace what is no artifact of ours, and to write where nothing can be written. Makes the parents.

    Args:
        out: a folder that is to be written; it may be there.
        what: what may lie there, "a model" or "an engine".

    Raises:
        DataError: `out` is a file, holds something that its manifest does not list, or cannot be made.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror}); set 'out' to another folder") from error
    holds = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if (out.exists() and not out.is_dir()) or not holds <= {MANIFEST, *_listed(out)}:
        raise DataError(f"{out}: holds something besides {what}, which would be lost; set 'out' to another folder")


def require_writable(path: Path, option: str) -> None:
    """Refuse a place where no file can be written, before long work; `option` names it. Makes the folder.

    Raises:
        DataError: the folder cannot be made or written to, or `path` is a folder itself.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise unwritable(path, option, error) from error
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a file in it with {option}")


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place when the block has ended well, also through a power cut.

    Else `path` is as it was, and nothing is left beside it. Makes the folder. One at a time may write a path.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.tmp")  # always the same: who is killed leaves one
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def replacing(out: Path, what: str) -> Iterator[Path]:
    """A new folder that takes the place of `out` when the block has ended well; else `out` is as it was.

    Raises:
        DataError: `out` cannot be written, or is not to be replaced, see `require_replaceable`.
    """
    require_replaceable(out, what)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        new, old = Path(scratch, "new"), Path(scratch, "old")
        new.mkdir()
        yield new
        if out.exists():
            out.rename(old)
        try:
            new.rename(out)
        except OSError as error:
            if old.exists():
                old.rename(out)
            raise DataError(f"{out}: cannot be replaced ({error.strerror}); set 'out' to another folder") from error


def unwritable(path: Path, option: str, error: OSError) -> DataError:
    """What is said of a file that cannot be written; `option` is where another is named."""
    return DataError(f"{path}: cannot be written ({error.strerror}); choose another {option}")


def _listed(folder: Path) -> Iterable[str]:
    """The files that the folder's manifest lists, none where it has no manifest or a damaged one."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()
    return files if isinstance(files, dict) else ()
