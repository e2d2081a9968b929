"""Pictures of the past, judged once more: by any bank, as the line would, whatever has happened to its clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.engine.base import Engine
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.events import Verdict
from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.settings.worker import CameraSettings, WorkerSettings

_BATCH = 16


class Rejudge:
    """Judges frames by `bank`, with the settings of the line.

    Raises:
        QuarterturnError: the bank does not fit the engine or the settings.
    """

    def __init__(self, engine: Engine, bank: Bank, settings: WorkerSettings) -> None:
        cameras = {name: camera.model_copy(update={"max_age_ms": None}) for name, camera in settings.cameras.items()}
        self.cameras: Mapping[str, CameraSettings] = cameras
        self._inspector = Inspector(engine, settings.line, settings.overkill, cameras, settings.thresholds)
        self._inspector.use(bank)

    def judge(self, frames: Sequence[Frame]) -> list[Verdict | DataError]:
        """The verdict on each frame; a DataError where none is possible, with a sentence."""
        found: list[Verdict | DataError] = []
        for start in range(0, len(frames), _BATCH):
            # A picture of the past comes twice without being one of a frozen camera: as the replay that it is.
            replayed = [
                replace(frame, headers={**frame.headers, "simulated": b"true"})
                for frame in frames[start : start + _BATCH]
            ]
            for frame, outcome in zip(replayed, self._inspector.inspect(replayed), strict=True):
                if isinstance(outcome, Verdict):
                    found.append(outcome)
                else:
                    why = getattr(outcome.data, "message", "it is too old")
                    found.append(DataError(f"{frame.position}: cannot be inspected: {why}"))
        return found

    def close(self) -> None:
        """Stop its threads; the engine belongs to its owner."""
        self._inspector.close()
