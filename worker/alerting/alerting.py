"""From verdicts to what is published of them, without I/O: in the order of the frames, each decided once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quarterturn.worker.alerting.drift import DriftWatch
from quarterturn.worker.alerting.hygiene import Hygiene, Silences
from quarterturn.worker.messages.events import Outcome, Verdict
from quarterturn.worker.settings.worker import CameraSettings

_NO_CAMERA = CameraSettings()


class Alerting:
    """Decides which alerts are held and which events come with verdicts; of one thread.

    What it knows of a camera is kept for each partition, survives frames that come again, and ends with the process.
    `silences` are asked for with each alert.
    """

    def __init__(self, cameras: Mapping[str, CameraSettings] | None = None, silences: Silences = tuple) -> None:
        self._cameras = cameras or {}
        self._drift = DriftWatch()
        self._hygiene = Hygiene(silences)

    def apply(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The outcomes of a batch, in order, with what is decided of their alerts; their data stay as they are."""
        return [self._apply(outcome) if isinstance(outcome, Verdict) else outcome for outcome in outcomes]

    def _apply(self, verdict: Verdict) -> Verdict:
        camera = self._cameras.get(verdict.data.camera, _NO_CAMERA)
        verdict, explained = self._drift.apply(verdict, camera.drift)
        return self._hygiene.apply(verdict, camera.alerts, drifting=explained)
