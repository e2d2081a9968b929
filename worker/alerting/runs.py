"""Runs of alerts, as small frozen states: what is known of a camera after a frame, and which alerts that holds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from quarterturn.worker.messages.alarms import Since
from quarterturn.worker.messages.events import AlertKind, Held
from quarterturn.worker.settings.worker import AlertSettings


@dataclass(frozen=True, slots=True)
class Run:
    """Alerts since the first of them, `count` so far; `told` is the kind of the one that was published, if one was."""

    since: Since
    count: int
    told: AlertKind | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is known of one trouble of a camera, with the part or with the picture, after one of its frames.

    `window` are the last frames, None for those that were no alert. `run` begins with as many alerts among them as the
    settings ask for, and ends when there is none left. `alerted_s` is the time of the last alert that was published.
    """

    window: tuple[Since | None, ...] = ()
    run: Run | None = None
    alerted_s: float | None = None

    @property
    def alerts(self) -> list[Since]:
        """Those of the window."""
        return [one for one in self.window if one is not None]

    def after(self, alert: Since | None, settings: AlertSettings) -> Trouble:
        """The same after one more frame, which is an alert or (None) is not."""
        later = replace(self, window=(*self.window, alert)[-settings.of_last :])
        alerts = later.alerts
        if self.run is None:
            run = Run(alerts[0], len(alerts)) if len(alerts) >= settings.at_least else None
        else:
            run = replace(self.run, count=self.run.count + (alert is not None)) if alerts else None
        return replace(later, run=run)

    def holds(self, time_s: float, settings: AlertSettings) -> Held | None:
        """Why the alert of the last frame, of the time `time_s`, is held; None: nothing here speaks against it."""
        if self.run is None or len(self.alerts) < settings.at_least:
            return "too_few"
        if settings.group_runs and self.run.told:
            return "in_a_run"
        # A clock that was ahead for one frame must not hold all alerts until its time has come.
        if self.alerted_s is not None and 0 <= time_s - self.alerted_s < settings.cool_down_s:
            return "cool_down"
        return None

    def alerted(self, kind: AlertKind, time_s: float) -> Trouble:
        """The same with the alert of the last frame published."""
        return replace(self, alerted_s=time_s, run=replace(self.run, told=kind) if self.run else None)
