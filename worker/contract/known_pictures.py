"""Pictures by their content: copies count once, and an engine knows again which pictures its training saw."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.settings import Settings
from quarterturn.worker.contract.splits import composed, groups_of

log = logging.getLogger(__name__)

Side = Literal["learned", "chosen_by", "held_out"]
SIDES: tuple[Side, ...] = get_args(Side)
_DIGITS = 16  # of a hash that are kept: among a million pictures, two alike by chance once in 10⁷ times


class KnownPictures(Settings):
    """The pictures of one product that training knew.

    Of each, one after the other, the first 16 hexadecimal digits of the SHA-256 of its name (in Unicode's composed
    form), then of its content. Training learned from those `learned`, chose by those `chosen_by`, and never looked at
    those `held_out`.
    """

    learned: str = Field(default="", pattern=r"^([0-9a-f]{32})*$")
    chosen_by: str = Field(default="", pattern=r"^([0-9a-f]{32})*$")
    held_out: str = Field(default="", pattern=r"^([0-9a-f]{32})*$")

    @classmethod
    def of(cls, sides: Mapping[Side, Sequence[Path]], hashes: Mapping[Path, str]) -> KnownPictures:
        """Of the pictures on each side, `hashes` being those of `hash_pictures`."""
        return cls(
            **{
                side: "".join(sorted(_hash_name(path) + hashes[path] for path in paths))
                for side, paths in sides.items()
            }
        )

    def sides(self) -> dict[str, Side]:
        """The side of each picture that training knew, by the hash of its content."""
        return {content: side for side in SIDES for _, content in self._pairs(side)}

    def sides_by_name(self) -> dict[str, Side]:
        """The same, by the hash of its name; without names that are on several sides, in folders side by side."""
        known: dict[str, set[Side]] = {}
        for side in SIDES:
            for name, _ in self._pairs(side):
                known.setdefault(name, set()).add(side)
        return {name: next(iter(sides)) for name, sides in known.items() if len(sides) == 1}

    def changes(self, pictures: Sequence[Path], hashes: Mapping[Path, str]) -> dict[str, int]:
        """How many of `pictures` are "new", how many "changed" under their old name, how many known ones are "gone"."""
        contents, names = self.sides(), self.sides_by_name()
        unknown = [path for path in pictures if hashes[path] not in contents]
        changed = sum(_hash_name(path) in names for path in unknown)
        missing = len(contents.keys() - {hashes[path] for path in pictures})
        return {"new": len(unknown) - changed, "changed": changed, "gone": max(0, missing - changed)}

    def _pairs(self, side: Side) -> list[tuple[str, str]]:
        text: str = getattr(self, side)
        halves = [text[start : start + _DIGITS] for start in range(0, len(text), _DIGITS)]
        return list(zip(halves[::2], halves[1::2], strict=True))


def hash_pictures(pictures: Sequence[Path]) -> dict[Path, str]:
    """The first 16 hexadecimal digits of the SHA-256 of each file.

    Raises:
        DataError: one cannot be read.
    """
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="hash") as pool:
        return dict(zip(pictures, pool.map(_hash_file, pictures), strict=True))


def distinct(pictures: Mapping[str, Sequence[Path]], hashes: Mapping[Path, str]) -> dict[str, list[Path]]:
    """The pictures of each product without exact copies, of which the first counts; says how many are left out.

    Raises:
        DataError: the same picture is there under two products.
    """
    found: dict[str, list[Path]] = {}
    first: dict[str, tuple[str, Path]] = {}
    for product, paths in pictures.items():
        found[product] = []
        for path in paths:
            owner, original = first.setdefault(hashes[path], (product, path))
            if owner != product:
                raise DataError(f"{path}: is the same picture as {original}, of another product; remove the wrong one")
            if original == path:
                found[product].append(path)
        if copies := len(paths) - len(found[product]):
            log.warning(
                "%s: %d of %d pictures are exact copies of others; each picture counts once, so there are %d",
                product,
                copies,
                len(paths),
                len(found[product]),
            )
    return found


def sides_of(
    known: KnownPictures, pictures: Sequence[Path], hashes: Mapping[Path, str], group: str | None
) -> dict[Path, Side]:
    """The sides of those `pictures` that training knew: by content, else by name, else by their group.

    A changed file stays where its name was, and new pictures of a part stay with it.
    """
    contents, names = known.sides(), known.sides_by_name()
    found: dict[Path, Side] = {}
    for together in groups_of(pictures, group):
        sides = {path: contents.get(hashes[path]) or names.get(_hash_name(path)) for path in together}
        seen = [side for side in SIDES if side in sides.values()]
        for path, side in sides.items():
            if side or seen:
                found[path] = side or seen[0]
    return found


def _hash_name(path: Path) -> str:
    return hashlib.sha256(composed(path.name).encode()).hexdigest()[:_DIGITS]


def _hash_file(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
