"""Events about a camera, on the alerts topic beside its alerts: alarms that are raised and cleared."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from quarterturn.worker.contract.usual import Measure, Quantity
from quarterturn.worker.messages.data import Data
from quarterturn.worker.messages.events import AlarmData, AlarmKind, AlertKind, ResultData


class Since(Data):
    """Where something began: the result of a frame, and its time."""

    result_id: str
    time: str = Field(description="ISO 8601: the frame's `capturedAt` as it came, else when it was inspected")


def here(data: ResultData) -> Since:
    """The frame of `data`, as where something begins."""
    return Since(result_id=data.result_id, time=time_of(data))


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


class Drift(AlarmData):
    """The data of a drift: the pictures of a camera are no longer as they were when the bank was calibrated, or since.

    `raised` comes with the frame that completes the evidence, `cleared` with the one from which on the measure is back,
    or with the first of a new bank. `usual` and `present` are of the product that the frame shows: scores, grey levels
    (brightness), percent of the usual (sharpness, red, blue, size), pixels of the picture from where parts usually lie
    (x, to the right; y, down) or degrees clockwise from how they do (turn). They are null where that product does not
    tell.
    """

    event: ClassVar[AlarmKind] = "drift"

    measure: Measure = Field(description="what drifts: the cause, or `score` where only the result is seen")
    quantity: Quantity = Field(description="by which number that is seen")
    since: Since = Field(description="about where it began: all that speaks for it came after this frame")
    frames: int = Field(ge=1, description="counted until the alarm was raised")
    evidence: float = Field(
        description="log10 of the test martingale when the alarm was raised; n or more happens once in 10^n by chance"
    )
    usual: float | None
    present: float | None = Field(description="the mean of the last frames, 32 at most")
    reason: str = Field(description="the same in words")

    @property
    def about(self) -> str:
        """See AlarmData; a measure may be cleared and raised by the same frame."""
        return f"{self.measure}:{self.state}"


def of_frame(data: ResultData) -> dict[str, Any]:
    """What an event about a camera says of the frame that it comes with."""
    return {name: getattr(data, name) for name in AlarmData.model_fields if name != "state"}


def time_of(data: ResultData) -> str:
    """A frame's time: when it was taken, if it says so, else when it was inspected."""
    return data.frame.captured_at or data.creation_time
