"""Confirmed defects: what the version in service finds, the next one must find, too."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.engine.base import Engine
from quarterturn.worker.learning.rejudge import Rejudge
from quarterturn.worker.learning.shelf import Kept
from quarterturn.worker.messages.events import ResultData, Verdict
from quarterturn.worker.settings.worker import WorkerSettings


@dataclass(frozen=True)
class Regression:
    """The confirmed defects beside two versions: `lost` are found by the first alone, `missed` by neither."""

    found: tuple[Kept, ...]
    lost: tuple[tuple[Kept, ResultData, ResultData], ...]
    missed: tuple[Kept, ...]

    @property
    def sentences(self) -> list[str]:
        """Why the second version may not be published: one for each defect that it loses."""
        return [
            f"{kept.result_id} (bad, {kept.note.feedback.by}) would no longer be found: {_why(before, now)}"
            for kept, before, now in self.lost
        ]


def compare(engine: Engine, bad: Sequence[Kept], before: Bank, after: Bank, settings: WorkerSettings) -> Regression:
    """Judge the pictures called bad by both versions."""
    frames = [one.frame() for one in bad]
    judged = []
    for bank in (before, after):
        with closing(Rejudge(engine, bank, settings)) as rejudge:
            judged.append(rejudge.judge(frames))
    found, lost, missed = [], [], []
    for kept, old, new in zip(bad, *judged, strict=True):
        if not isinstance(old, Verdict) or not isinstance(new, Verdict):
            missed.append(kept)  # its camera's settings have changed since, so that it cannot be inspected any more
        elif new.is_alert:
            found.append(kept)
        elif old.is_alert:
            lost.append((kept, old.data, new.data))
        else:
            missed.append(kept)
    return Regression(tuple(found), tuple(lost), tuple(missed))


def _why(before: ResultData, now: ResultData) -> str:
    numbers = (
        f"it scores {now.score:.4g} of a threshold of {now.threshold:.4g}, in the version in service "
        f"{before.score:.4g} of {before.threshold:.4g}"
    )
    if before.alert == "unusable_picture":
        return f"{numbers}, where the picture cannot be judged ({before.reason}), and in the new one it can"
    fell = now.score / before.score if before.score else 1.0
    rose = now.threshold / before.threshold if before.threshold else 1.0
    if fell * rose < 1:
        return f"{numbers}; its score fell, because something that was called good looks like it"
    return f"{numbers}; the threshold rose, because of pictures called good that calibrate now"
