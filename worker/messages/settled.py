"""How far the records of a partition are settled, where not all are settled in their order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settled:
    """All before `position` are, and of those from there on the ones that `done` marks.

    `done` is a bit for each offset from `position` on, the lowest bit of a byte first, in base64 for URLs without
    padding; what is beyond it is not settled.
    """

    position: int
    done: str = ""
