"""Which alerts of a camera are published, and which are held."""

from __future__ import annotations

from quarterturn.worker.messages.events import Verdict
from quarterturn.worker.settings.worker import CameraSettings


class Hygiene:
    """Holds alerts as the settings of their cameras ask; of one thread."""

    def apply(self, verdict: Verdict, camera: CameraSettings, drifting: bool) -> Verdict:
        """`verdict` with what is decided of its alert; `drifting`: an alarm says that the camera's pictures changed."""
        return verdict
