"""What comes of a part that several cameras see: one result, from the results of its frames."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from pydantic import Field

from quarterturn.worker.messages.data import Data
from quarterturn.worker.messages.events import AlertKind, Event, cloud_event

PartState = Literal["complete", "timed_out"]
PartVerdict = Literal["good", "bad", "not_inspected"]


class Worst(Data):
    """The frame that looks worst: an alert about the part before one about the picture, then by score."""

    result_id: str
    camera: str
    score_over_threshold: float = Field(ge=0, le=100, description="beyond 1 is an alert")


class PartData(Data):
    """The data of a part's result.

    `verdict` is `bad` where a frame is an alert about the part, whatever else is missing. It is `good` only where every
    camera has seen the part and can say so. Else it is `not_inspected`: a camera is `missing`, a frame was `late`, or a
    picture was unusable.
    """

    result_id: str = Field(description="that of the part's first frame, so a repetition has the same")
    is_simulated: bool = False
    part_id: str
    job_id: str = Field(description="the line")
    creation_time: str
    product_id: str | None = Field(
        default=None,
        description="what is declared for its frames, or else predicted; where they differ, of the one read first",
    )
    began_at: str = Field(description="ISO 8601: the time of the first frame")
    state: PartState = Field(description="whether each camera's frame came in time, inspected or not")
    verdict: PartVerdict
    alert: AlertKind | None = Field(default=None, description="of the worst frame")
    worst: Worst | None = Field(default=None, description="null where no frame was inspected")
    frames: dict[str, list[str]] = Field(description="by camera: the `resultId` of each frame, in order of their times")
    late: list[str] = Field(description="cameras of which a frame came too late to be inspected")
    missing: list[str] = Field(description="cameras of which no frame came, or only a dead letter")


def event_of(part: PartData) -> Event:
    """The CloudEvent that publishes it; its key is the part's id."""
    identity, source = f"part:{part.result_id}", f"{quote(part.job_id)}/parts"
    key = part.part_id.encode("utf-8")
    return cloud_event("part", key, part, identity=identity, source=source, time=part.creation_time)
