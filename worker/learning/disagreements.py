"""Results that the newest version would decide otherwise than the person who looked at the part."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.engine.base import Engine
from quarterturn.worker.learning.gather import Archive
from quarterturn.worker.learning.rejudge import Rejudge
from quarterturn.worker.learning.shelf import Kept
from quarterturn.worker.messages.events import ResultData, Verdict, position_of
from quarterturn.worker.messages.feedback import Feedback
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.settings.worker import WorkerSettings

_AT_ONCE = 32  # frames in memory


@dataclass
class Disagreements:
    """Each word that the bank does not share, with what the bank says; and why others could not be compared."""

    found: list[tuple[Feedback, ResultData]] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)


def find_disagreements(
    engine: Engine,
    bank: Bank,
    words: Mapping[str, Feedback],
    *,
    kept: Mapping[str, Kept],
    archive: Archive,
    settings: WorkerSettings,
) -> Disagreements:
    """Judge every picture that people judged, by `bank`; those not `kept` are fetched.

    Raises:
        QuarterturnError: the bank does not fit, or the archive does not answer.
    """
    found = Disagreements()
    every = list(words.values())
    with closing(Rejudge(engine, bank, settings)) as rejudge:
        for start in range(0, len(every), _AT_ONCE):
            part = every[start : start + _AT_ONCE]
            missing = [position_of(word.result_id) for word in part if word.result_id not in kept]
            fetched = archive.fetch(missing) if missing else {}
            frames = {word.result_id: _frame(word, kept, fetched) for word in part}
            there = {name: frame for name, frame in frames.items() if isinstance(frame, Frame)}
            judged = {**frames, **dict(zip(there, rejudge.judge(list(there.values())), strict=True))}
            for word in part:
                verdict = judged[word.result_id]
                if not isinstance(verdict, Verdict):
                    found.unknown[word.result_id] = str(verdict)
                elif verdict.is_alert == (word.verdict == "good"):
                    found.found.append((word, verdict.data))
    return found


def _frame(
    word: Feedback, kept: Mapping[str, Kept], fetched: Mapping[Position, Frame | DataError]
) -> Frame | DataError:
    there = kept.get(word.result_id)
    return there.frame() if there else fetched[position_of(word.result_id)]
