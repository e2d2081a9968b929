"""What the index keeps of a result: read leniently, for anybody may write to a topic, and workers may be newer."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.times import parse_time
from quarterturn.worker.messages.events import position_of
from quarterturn.worker.messages.frames import Position

Lane = Literal["defect", "wrong", "unusable"]
"""What a reviewer looks for: a defect; another product or orientation; a picture or camera that cannot be trusted."""

LANES: dict[str, Lane] = {
    "defect": "defect",
    "wrong_product": "wrong",
    "wrong_orientation": "wrong",
    "unusable_picture": "unusable",
    "drift": "unusable",
}
"""The lane of each kind of alert. One that is not known here is shown among the defects rather than nowhere."""

LATE, DEAD_LETTER = "late", "dead_letter"
"""Kinds of frames that nobody inspected: counted, but nothing to review."""

_VALUES = {"reason.unknown_product": r"product (?P<product>.+) is not in the bank \((?P<known>.+)\); .+"}
"""Where a reason says what its words in other languages leave open."""

Text = Annotated[str, Field(max_length=2048)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=0)]


class Said(BaseModel):
    """Base of what is read from topics: what is not asked for is not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel)


class _Frame(Said):
    captured_at: Text | None = None


class _Times(Said):
    total_ms: Number


class _Result(Said):
    """A verdict, a late frame or a dead letter, as far as the console shows it."""

    result_id: Annotated[str, Field(min_length=1, max_length=1024)]
    creation_time: Text
    frame: _Frame
    camera: Text | None = None
    product_id: Text | None = None
    predicted_product: Text | None = None
    part_id: Text | None = None
    is_simulated: bool = False
    alert: Text | None = None
    reason: Text | None = None
    message: Text | None = None
    score: Number | None = None
    threshold: Number | None = None
    p_value: Number | None = None
    heat_map: Annotated[str, Field(max_length=20_000)] | None = None
    internal_configuration_id: Text | None = None
    max_age_ms: Number | None = None
    processing_times: _Times | None = None


Row = dict[str, Any]
"""A result by the index's columns."""


def row_of(data: object) -> tuple[Row, str | None] | None:
    """The row and the heat map of a result's data, as it was read from JSON; None: it is no result."""
    try:
        said = _Result.model_validate(data)
        place = position_of(said.result_id)
        at = parse_time(said.creation_time).timestamp()
        captured = parse_time(said.frame.captured_at).timestamp() if said.frame.captured_at else None
    except (ValidationError, DataError, ValueError):  # a ValueError: a time that is none
        return None
    kind = _kind(said)
    row = {
        "id": said.result_id,
        "at": at,
        "camera": said.camera or "?",
        "product": said.product_id or said.predicted_product,
        "looks_like": said.predicted_product,
        "part": said.part_id,
        "kind": kind,
        "lane": None if kind in (None, LATE, DEAD_LETTER) else LANES.get(kind, "defect"),
        "score": said.score,
        "threshold": said.threshold,
        "p_value": said.p_value,
        "reason": said.message or said.reason,
        "code": f"reason.{said.reason}" if said.message else code_of(said.reason),
        "simulated": said.is_simulated,
        "bank": said.internal_configuration_id,
        "took_ms": said.processing_times.total_ms if said.processing_times else None,
        "age_ms": max(0.0, (at - captured) * 1000) if captured is not None else None,
        "has_heat": said.heat_map is not None,
        **asdict(place),
    }
    return row, said.heat_map


def code_of(reason: str | None) -> str | None:
    """Which words of static/words.json say a worker's reason in other languages: by its own, up to its numbers.

    Example:
        >>> code_of("too dark: brightness 12 of 41 to 190")
        'reason.too dark'
    """
    return None if reason is None else f"reason.{re.split('[:,]| [0-9]', reason)[0]}"


def words_of(code: str | None, reason: str | None) -> dict[str, Any]:
    """`code` and the `values` that its words leave open, from what the worker said; no code where it says it otherwise.

    Example:
        >>> words_of("reason.empty", "the frame has no bytes")
        {'code': 'reason.empty', 'values': {}}
    """
    pattern = _VALUES.get(code or "")
    if pattern is None:
        return {"code": code, "values": {}}
    found = re.fullmatch(pattern, reason or "", re.DOTALL)
    return {"code": code, "values": found.groupdict()} if found else {"code": None, "values": {}}


def place_of(row: Row) -> Position:
    """Where the frame of a result is."""
    return Position(row["topic"], row["partition"], row["offset"], row["topic_id"])


def _kind(said: _Result) -> str | None:
    """The alert's kind, or why nobody inspected the frame; None: it is good."""
    if said.score is not None:
        return said.alert
    return LATE if said.max_age_ms is not None else DEAD_LETTER
