"""Pictures that show the same part: they count once, and what is said of them must agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quarterturn.worker.learning.shelf import Kept
from quarterturn.worker.pictures.near_duplicates import SAME, SIMILARITY, Grey, pairs


@dataclass
class NearDuplicates:
    """Among the judged pictures of one product, by the results' ids.

    `copies` are the same photograph as another that counts, whose name is the value. `contradictions` are pairs of the
    same photograph, one called good and one bad; where the other is a picture of the bank, it was called good by that.
    `near` show nearly what an earlier one does.
    """

    copies: dict[str, str] = field(default_factory=dict)
    contradictions: list[tuple[str, str]] = field(default_factory=list)
    near: dict[str, str] = field(default_factory=dict)

    @property
    def contradicted(self) -> set[str]:
        """All that stand in a contradiction."""
        return {name for pair in self.contradictions for name in pair}


def find_near_duplicates(
    first: Sequence[Path], kept: Sequence[Kept], thumbnails: Mapping[Path, Grey]
) -> NearDuplicates:
    """Compare the judged pictures with those that the bank was fitted from, and with each other."""
    found = NearDuplicates()
    if not first or not kept:
        return found
    names = [path.name for path in first] + [one.result_id for one in kept]
    is_good = [True] * len(first) + [one.is_good for one in kept]
    alike = pairs([thumbnails[path] for path in first], [thumbnails[one.path] for one in kept], SIMILARITY)
    for later, earlier, similarity in sorted(alike, key=lambda pair: (pair[0], -pair[2])):
        if similarity < SAME:
            found.near.setdefault(names[later], names[earlier])
        elif is_good[later] != is_good[earlier]:
            found.contradictions.append((names[later], names[earlier]))
        else:
            found.copies.setdefault(names[later], names[earlier])
    return found
