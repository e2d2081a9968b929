"""What a record of the verdicts topic says of a part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from quarterturn.worker.contract.times import parse_time
from quarterturn.worker.messages.events import AlertKind, score_over_threshold
from quarterturn.worker.settings.parts import PartsSettings

Ignored = Literal["no_part_id", "other_camera", "repeated", "unreadable"]
"""Why a record counts for no part."""

_TYPES = {b"quarterturn.verdict.v1": False, b"quarterturn.late.v1": True}


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame of a part: what its camera saw. `ratio` is score over threshold, None where it came too late.

    `time` is when it was taken, or, where it does not say or claims to be from the future, when it was inspected.
    """

    result_id: str
    part_id: str
    camera: str
    time: str
    time_s: float
    line: str
    product: str | None
    simulated: bool
    alert: AlertKind | None
    ratio: float | None


class _Said(BaseModel):
    """As much of a verdict, or of a late frame, as counts here; a newer worker may say more."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, allow_inf_nan=False)

    class _Frame(BaseModel):
        model_config = ConfigDict(alias_generator=to_camel, frozen=True)
        captured_at: str | None = None

    result_id: str = Field(min_length=1)
    is_simulated: bool = False
    part_id: str | None = None
    job_id: str
    creation_time: str
    product_id: str | None = None
    predicted_product: str | None = None
    camera: str
    frame: _Frame
    alert: AlertKind | None = None
    score: float = Field(default=0, ge=0)
    threshold: float = Field(default=0, ge=0)


def read_seen(kind: bytes | None, value: bytes | None, settings: PartsSettings) -> Seen | Ignored:
    """What a record says whose header `ce_type` is `kind`, or why it counts for no part."""
    if kind not in _TYPES or value is None:
        return "unreadable"
    try:
        said = _Said.model_validate_json(value)
        time, time_s = _time(said)
    except ValueError:  # pydantic's is one, too
        return "unreadable"
    product = said.product_id or said.predicted_product
    if not said.part_id:
        return "no_part_id"
    if said.camera not in settings.of(product):
        return "other_camera"
    return Seen(
        result_id=said.result_id,
        part_id=said.part_id,
        camera=said.camera,
        time=time,
        time_s=time_s,
        line=said.job_id,
        product=product,
        simulated=said.is_simulated,
        alert=said.alert,
        ratio=None if _TYPES[kind] else score_over_threshold(said.score, said.threshold),
    )


def _time(said: _Said) -> tuple[str, float]:
    times = [said.creation_time, *([said.frame.captured_at] if said.frame.captured_at else [])]
    return min(((text, parse_time(text).timestamp()) for text in times), key=lambda one: one[1])
