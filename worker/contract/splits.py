"""Which good pictures are held out of training, and which of these choose and calibrate."""

from __future__ import annotations

import hashlib
import math
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from quarterturn.worker.contract.errors import DataError

FOLDER = "folder"


def _names_a_part(rule: str) -> str:
    if rule == FOLDER:
        return rule
    try:
        groups = re.compile(rule).groups
    except re.error as error:
        raise ValueError(f"'{rule}' is neither '{FOLDER}' nor a regular expression ({error})") from None
    if groups < 1:
        raise ValueError(rf"'{rule}' has no (group) that names the part, as '^(\d+)_' has")
    return rule


Group = Annotated[str, AfterValidator(_names_a_part)]
"""Which pictures show the same part: those in one folder ("folder"), or of whose names the first group is the same."""


def hold_out(pictures: Sequence[Path], share: float, group: str | None = None) -> tuple[list[Path], list[Path]]:
    """Split one product's pictures into (to learn from, held out), the same way every time.

    The order is that of the hash of the file names, so training and bank fitting agree without a list on disk, and
    neighbouring numbers fall on both sides. `ceil(share · n)` are held out, never all. Pictures of one `group` stay on
    one side, and as many more are held out as the last one has.

    Raises:
        DataError: a name does not match the pattern `group`.
    """
    together = groups_of(pictures, group)
    count = min(math.ceil(Fraction(str(share)) * len(pictures)), len(pictures) - 1)
    return _parted(together, count, most=len(together) - 1)


def split_held_out(pictures: Sequence[Path], group: str | None = None) -> tuple[list[Path], list[Path]]:
    """Split held-out pictures into (a quarter to weigh detectors by, the rest to calibrate with), always the same way.

    What was weighed on a picture may not be calibrated on it, else the threshold would promise too much. At least one
    picture is to weigh by, and where there are two groups or more at least one to calibrate with.

    Raises:
        DataError: a name does not match the pattern `group`.
    """
    together = groups_of(pictures, group)
    rest, weighing = _parted(together, max(1, len(pictures) // 4), most=max(len(together) - 1, min(len(together), 1)))
    return weighing, rest


def groups_of(pictures: Sequence[Path], group: str | None = None) -> list[list[Path]]:
    """The pictures of each part, in the order of the hashes of the parts' names; without a rule each is its own part.

    Raises:
        DataError: a name does not match the pattern `group`.
    """
    ranked = sorted(pictures, key=lambda path: (_hash(path.name), [composed(part) for part in path.parts]))
    if group is None:
        return [[path] for path in ranked]
    parts: dict[str, list[Path]] = {}
    top = os.path.commonpath([path.parent for path in ranked]) if ranked else ""
    for path in ranked:
        parts.setdefault(_part(path, group, top), []).append(path)
    return [parts[name] for name in sorted(parts, key=_hash)]


def composed(name: str) -> str:
    """A name in Unicode's composed form: systems write "ä" as one character or as two, and mean the same."""
    return unicodedata.normalize("NFC", name)


def _part(path: Path, group: str, top: str) -> str:
    if group == FOLDER:
        return composed(path.parent.relative_to(top).as_posix())
    found = re.search(group, composed(path.name))
    if found is None or found[1] is None:
        raise DataError(f"{path}: its name does not match the pattern '{group}' of data.group; correct one of them")
    return found[1]


def _parted(together: Sequence[Sequence[Path]], count: int, most: int) -> tuple[list[Path], list[Path]]:
    """The pictures behind and in the first parts, of which so many are taken that they have `count` pictures."""
    taken, parts = 0, 0
    while taken < count and parts < most:
        taken, parts = taken + len(together[parts]), parts + 1
    return _sorted(together[parts:]), _sorted(together[:parts])


def _sorted(together: Iterable[Sequence[Path]]) -> list[Path]:
    return sorted(path for pictures in together for path in pictures)


def _hash(name: str) -> bytes:
    return hashlib.sha256(composed(name).encode(errors="surrogateescape")).digest()
