"""Events about a camera, on the alerts topic beside its alerts: alarms that are raised and cleared."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from quarterturn.worker.messages.events import AlarmData, AlarmKind, AlertKind, Data


class Since(Data):
    """Where something began: the result of a frame, and its time."""

    result_id: str
    time: str = Field(description="ISO 8601: the frame's `capturedAt` as it came, else when it was inspected")


class Episode(AlarmData):
    """The data of an episode: a run of alerts of one camera, of which only the first was published.

    `raised` comes with that alert, `grown` where `count` reaches 10, 100, 1000 and so on, `cleared` with the frame that
    ends the run. All of a run say the same `kind` and `since`.
    """

    event: ClassVar[AlarmKind] = "episode"

    kind: AlertKind = Field(description="of the alert that was published")
    since: Since = Field(description="the first frame of the run")
    count: int = Field(ge=1, description="frames with an alert in the run so far")

    @property
    def about(self) -> str:
        """See AlarmData."""
        return self.kind
