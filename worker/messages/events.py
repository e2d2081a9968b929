"""What comes of a frame: verdicts, alerts, late frames and dead letters, as CloudEvents in Kafka's binary mode.

The data of a result uses the OPC 40100-1 names (resultId, measId, partId, ...). JSON Schemas of the data
are published in docs/schemas/ and made by `schemas.json_schemas`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from pydantic import Field

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.limits import times_limit
from quarterturn.worker.contract.times import parse_time
from quarterturn.worker.contract.usual import Measures
from quarterturn.worker.messages.data import Data
from quarterturn.worker.messages.frames import Position
from quarterturn.worker.messages.notices import Notice

AlertKind = Literal["unusable_picture", "wrong_product", "wrong_orientation", "defect"]
AlarmKind = Literal["episode", "drift"]
AlarmState = Literal["raised", "grown", "cleared"]
EventKind = Literal["verdict", "alert", "late", "dead_letter", "feedback", "part", AlarmKind]
Held = Literal["silenced", "inhibited", "too_few", "in_a_run", "cool_down"]
"""Why an alert is not published; docs/alerts.md says what each means."""


class FramePosition(Data):
    """The frame's place in the stream and the camera's time; enough to replay it."""

    topic: str
    partition: int = Field(ge=0)
    offset: int = Field(ge=0)
    topic_id: str | None = Field(default=None, description="tells the topic from an earlier one of the same name")
    captured_at: str | None = None


class ProcessingTimes(Data):
    """Milliseconds spent on the frame's batch, and from the start of its decoding to the frame's verdict."""

    decode_ms: float = Field(ge=0)
    embed_ms: float = Field(ge=0)
    score_ms: float = Field(ge=0)
    total_ms: float = Field(ge=0)


class _Outcome(Data):
    """What verdicts, late frames and dead letters say alike."""

    result_id: str
    is_simulated: bool = False
    meas_id: str
    part_id: str | None = None
    job_id: str = Field(description="the line")
    creation_time: str
    product_id: str | None = Field(default=None, description="the product that was declared for the frame")
    camera: str
    frame: FramePosition


class ResultData(_Outcome):
    """The data of a verdict and of an alert.

    `alert` is null for a part within its threshold whose picture can be judged. `unusable_picture` goes before all
    other kinds, whatever the score, and `reason` says what is wrong with the picture. `score` is the detectors'
    evidence together, against the declared product, `productId`, or else against the one of those that the camera may
    show that fits best. It has no unit: it rises with whatever is unusual, and says something only beside `threshold`,
    which is for this product and bank. How rare it is among good parts says `pValue`. `viewDistances` are the distances
    of the whole frame's embedding from that product, one for each view. `predictedProduct` is that product, too, unless
    `alert` is `wrong_product`: then it is the one that the whole frame looks like.
    """

    is_partial: Literal[False] = False
    result_state: Literal["completed"] = "completed"
    internal_recipe_id: str = Field(description="the hash of the engine")
    internal_configuration_id: str = Field(description="the version of the bank")
    alert: AlertKind | None = None
    reason: str | None = Field(default=None, description="why the picture is unusable, null where it is not")
    score: float = Field(ge=0, description="without a unit, to be compared with its threshold alone")
    threshold: float = Field(ge=0, description="the score beyond which a frame of this product is an alert")
    p_value: float = Field(
        gt=0,
        le=1,
        description="the share of calibration pictures that score as high, this one counted too; "
        "the largest of the products that the frame may show",
    )
    predicted_product: str
    view_distances: list[float]
    heat_map: str | None = Field(
        default=None,
        description="where: a greyscale PNG in base64, 64 grey levels to a threshold; null if no detector sees places",
    )
    processing_times: ProcessingTimes


class LateData(_Outcome):
    """The data of a late frame: it came too old to be inspected in time, so nobody looked at it."""

    age_ms: float = Field(ge=0, description="from the frame's capture to the start of its inspection")
    max_age_ms: float = Field(gt=0, description="what the camera's settings allow")


class DeadLetterData(_Outcome):
    """The data of a dead letter: why a frame could not be inspected, and where its bytes are.

    What only the headers say is null where they could not be read.
    """

    camera: str | None = None  # type: ignore[assignment]  # the headers may not say
    reason: str = Field(description="a stable code such as 'undecodable'")
    message: str
    size: int = Field(ge=0, description="bytes of the frame")


class AlarmData(_Outcome):
    """The data of an event about a camera, published on the alerts topic with the verdict of one of its frames.

    What it says of a frame is that frame's. Classes of it are in `messages/alarms.py`.
    """

    event: ClassVar[AlarmKind]

    state: AlarmState

    @property
    def about(self) -> str:
        """What tells it from others of its kind that come with the same frame."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one frame; it is also an alert where `data.alert` says so.

    `heat` (h, w) float32 is the map behind `data.heat_map` before it was rounded. `notices` say in words
    what is odd about the picture: where it differs from those that the bank learned from. `measures` are the picture's,
    beside what is usual of its product, where somebody asks whether its camera drifts. None of these is published.
    `held` says why the alert is not published, where it is not; the verdict always is. `events` are published with it.
    """

    position: Position
    key: bytes | None
    data: ResultData
    heat: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((1, 1), np.float32), compare=False)
    notices: Mapping[Notice, str] = field(default_factory=dict)
    measures: Measures | None = field(default=None, compare=False)
    held: Held | None = None
    events: tuple[AlarmData, ...] = ()

    @property
    def is_alert(self) -> bool:
        """Whether the score is beyond the threshold, or the picture cannot be judged."""
        return self.data.alert is not None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A frame that could not be inspected."""

    position: Position
    key: bytes | None
    data: DeadLetterData


@dataclass(frozen=True, slots=True)
class Late:
    """A frame that was too old to be inspected."""

    position: Position
    key: bytes | None
    data: LateData


Outcome = Verdict | Late | DeadLetter

LARGEST_RATIO = 100.0
"""To which a score in thresholds is told, since a threshold may be 0."""

_COLONS = 3  # of a result's id, where the broker gives topics ids
RESULT_ID = r"^([^:]+)(?::([A-Za-z0-9_-]+))?:(0|[1-9][0-9]{0,18}):(0|[1-9][0-9]{0,18})$"
"""How `result_id` writes a position: topic, the topic's id where there is one, partition, offset."""


@dataclass(frozen=True, slots=True)
class Event:
    """A CloudEvent, ready for a topic: `headers` are Kafka's binary mode, `value` is the JSON of its data."""

    kind: EventKind
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    value: bytes


def events_of(outcome: Outcome) -> list[Event]:
    """The CloudEvents that publish one outcome: a verdict, a late frame, or a dead letter, always the first of them.

    Behind a verdict come its alert, where it is one that is not held, and its further events.
    """
    key, data = outcome.key, outcome.data
    if isinstance(outcome, DeadLetter):
        return [_event("dead_letter", key, data)]
    if isinstance(outcome, Late):
        return [_event("late", key, data)]
    alert = [_event("alert", key, data)] if outcome.is_alert and outcome.held is None else []
    alarms = [_event(one.event, key, one, f":{one.about}") for one in outcome.events]
    return [_event("verdict", key, data), *alert, *alarms]


def result_id(position: Position) -> str:
    """The same frame always gets the same id, and another frame another one: consumers can tell a repetition."""
    topic = position.topic if position.topic_id is None else f"{position.topic}:{position.topic_id}"
    return f"{topic}:{position.partition}:{position.offset}"


def position_of(result_id: str) -> Position:
    """The inverse of `result_id`.

    Raises:
        DataError: it is no such id.
    """
    found = re.fullmatch(RESULT_ID, result_id)
    if found is None:
        raise DataError(
            f"{result_id[:80]!r} is no id of a result, such as frames:7xzPKZ1HQPuVrZqCNFyXTQ:0:1841; "
            "take the 'resultId' of a verdict"
        )
    return Position(found[1], int(found[3]), int(found[4]), found[2])


def result_id_in(text: str) -> str:
    """The id of a result in its own or in the id of an event about it.

    Example:
        >>> result_id_in("alert:frames:7xzPKZ1HQPuVrZqCNFyXTQ:0:1841")
        'frames:7xzPKZ1HQPuVrZqCNFyXTQ:0:1841'
    """
    kind, _, rest = text.partition(":")
    return rest if kind in get_args(EventKind) and rest.count(":") == _COLONS else text


def score_over_threshold(score: float, threshold: float) -> float:
    """Beyond 1 is an alert; at most LARGEST_RATIO."""
    return min(max(times_limit(score, threshold), 0.0), LARGEST_RATIO)


def ahead_s(outcome: Outcome) -> float:
    """How many seconds after its own result the frame claims to have been taken; 0 where it says no time."""
    captured_at = outcome.data.frame.captured_at
    if captured_at is None:
        return 0.0
    return max(0.0, (parse_time(captured_at) - parse_time(outcome.data.creation_time)).total_seconds())


def cloud_event(kind: EventKind, key: bytes | None, data: Data, *, identity: str, source: str, time: str) -> Event:
    """The event of the type quarterturn.`kind`.v1 with the id `identity`; `source` is the path below /quarterturn."""
    headers = {
        "ce_specversion": "1.0",
        "ce_id": identity,
        "ce_source": f"/quarterturn/{source}",
        "ce_type": f"quarterturn.{kind}.v1",
        "ce_time": time,
        "content-type": "application/json",
    }
    encoded = tuple((name, value.encode("utf-8")) for name, value in headers.items())
    return Event(kind, key, encoded, data.model_dump_json(by_alias=True).encode("utf-8"))


def _event(kind: EventKind, key: bytes | None, data: _Outcome, about: str = "") -> Event:
    source = f"{quote(data.job_id)}/{quote(data.camera or 'unknown', safe='')}"
    identity = f"{kind}:{data.result_id}{about}"
    return cloud_event(kind, key, data, identity=identity, source=source, time=data.creation_time)
