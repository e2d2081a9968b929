"""How a bank came to be what it is: which words of people on results it and those before it learned from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from quarterturn.worker.contract.manifest import short
from quarterturn.worker.contract.settings import Settings

Role = Literal["learned", "calibrating", "waiting", "found", "missed", "left_out"]
"""What became of a picture. A good one became part of what good parts look like (`learned`), or gives a score from
which thresholds are made (`calibrating`), or may do so once there are more of its kind (`waiting`). A bad one raises an
alert, and must do so in every later version (`found`), or none has found it yet (`missed`). `left_out`: taken back,
contradicted, or a copy."""


class Word(Settings):
    """What somebody said of the part behind a result, and what became of its picture."""

    result_id: str
    verdict: Literal["good", "bad"]
    by: str
    at: str
    product: str
    role: Role


class Step(Settings):
    """What one version learned beyond the version `parent`.

    `words` are those that are new, or whose role changed. `calibration` says how many of the first calibration
    pictures of each product still calibrate; the others are those of `words`.
    """

    parent: str
    at: str
    words: tuple[Word, ...]
    calibration: dict[str, int]

    @property
    def sentence(self) -> str:
        """When it was made, from what, by whom."""
        counts = {verdict: sum(word.verdict == verdict for word in self.words) for verdict in ("good", "bad")}
        people = ", ".join(sorted({word.by for word in self.words}))
        said = " and ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
        return f"{self.at}: learned from {short(self.parent)} with {said or 'no'} parts by {people or 'nobody'}"


History = tuple[Step, ...]


def words_in(history: Iterable[Step]) -> dict[str, Word]:
    """The words that a version rests on, by their result's id: of each result the last one."""
    return {word.result_id: word for step in history for word in step.words}
