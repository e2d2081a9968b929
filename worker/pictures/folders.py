"""Picture files below a folder: what counts as one, and what is never read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from quarterturn.worker.contract.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})

# What systems leave in folders of pictures: thumbnails, half of a copy, what was deleted. Names in lower case.
_LEFT_BY_SYSTEMS = frozenset(
    {
        "thumbs.db",
        "desktop.ini",
        "@eadir",
        "#recycle",
        "@recycle",
        "$recycle.bin",
        "system volume information",
        "__macosx",
        "lost+found",
    }
)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is never read: hidden, or left there by the system."""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


def list_pictures(folder: Path) -> list[Path]:
    """All picture files below `folder`, sorted; links are followed, what is hidden is left out.

    Raises:
        DataError: the folder is missing or holds no picture, something in it cannot be read, or a link leads nowhere or
            round in circles.
    """
    found = sorted(_walk(folder, frozenset()))
    if not found:
        raise DataError(f"{folder}: holds no picture ({', '.join(sorted(SUFFIXES))}); check the path")
    return found


def holds_pictures(folder: Path) -> bool:
    """Whether there is any picture file below `folder`."""
    return next(_walk(folder, frozenset()), None) is not None


def folders_in(folder: Path) -> list[Path]:
    """The folders directly in `folder`, sorted, without hidden ones.

    Raises:
        DataError: it is missing or cannot be read.
    """
    return sorted(folder / entry.name for entry in _entries(folder) if _is(entry, folder, os.DirEntry.is_dir))


def pictures_in(folder: Path) -> list[Path]:
    """The picture files directly in `folder`, sorted.

    Raises:
        DataError: it is missing or cannot be read, or a link in it leads nowhere.
    """
    return sorted(folder / entry.name for entry in _entries(folder) if _is_picture(entry, folder))


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """The picture files below `folder`; `above` are the folders on the way to it, by device and inode."""
    entries = _entries(folder)
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise DataError(f"{folder}: is a link to a folder that it lies in; remove the link")
    for entry in entries:
        if _is(entry, folder, os.DirEntry.is_dir):
            yield from _walk(folder / entry.name, above | {here})
        elif _is_picture(entry, folder):
            yield folder / entry.name


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies directly in `folder`, without what is hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_hidden(entry.name)]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{_shown(folder)}: there is no such folder; check the path") from error
    except OSError as error:
        raise DataError(f"{_shown(folder)}: cannot be read ({error.strerror}); correct its permissions") from error


def _is_picture(entry: os.DirEntry[str], folder: Path) -> bool:
    if Path(entry.name).suffix.lower() not in SUFFIXES:
        return False
    if not _is(entry, folder, os.DirEntry.is_file):
        if entry.is_symlink() and not Path(entry.path).exists():
            raise DataError(f"{_shown(folder / entry.name)}: is a link to nothing; mend or remove it")
        return False
    return True


def _is(entry: os.DirEntry[str], folder: Path, what: Callable[[os.DirEntry[str]], bool]) -> bool:
    """Whether `entry` is a folder, or a file; its name must be one that messages, reports and headers can carry."""
    try:
        found = what(entry)
    except OSError as error:
        path = _shown(folder / entry.name)
        raise DataError(f"{path}: cannot be read ({error.strerror}); mend or remove it") from error
    if found and not entry.name.isascii() and _shown(Path(entry.name)) != entry.name:
        raise DataError(f"{_shown(folder / entry.name)}: its name is no UTF-8 text; rename it")
    return found


def _shown(path: Path) -> str:
    """The path, with the bytes that are no UTF-8 as escapes."""
    return os.fsencode(path).decode(errors="backslashreplace")
