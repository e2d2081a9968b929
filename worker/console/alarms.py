"""What the alerts topic says of a camera beside its alerts: runs of alerts, and drifts, raised and cleared."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ValidationError

from quarterturn.worker.console.rows import Said, Text, code_of
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.times import parse_time
from quarterturn.worker.messages.events import position_of

Alarm = dict[str, Any]
"""An alarm by the index's columns: `about` tells it from others of its camera, `raised` whether it is on."""

DRIFT = "drift"


class _Alarm(Said):
    result_id: Text
    creation_time: Text
    camera: Text
    state: Literal["raised", "grown", "cleared"]
    kind: Text | None = None
    count: int | None = None
    measure: Text | None = None
    reason: Text | None = None


def alarm_of(data: object) -> Alarm | None:
    """The alarm that an event's data says, as it was read from JSON; None: it is none."""
    try:
        said = _Alarm.model_validate(data)
        position_of(said.result_id)
        at = parse_time(said.creation_time).timestamp()
    except (ValidationError, DataError, ValueError):  # a ValueError: a time that is none
        return None
    is_drift = said.measure is not None
    return {
        "camera": said.camera,
        "about": f"{DRIFT}:{said.measure}" if is_drift else "episode",
        "raised": said.state != "cleared",
        "at": at,
        "kind": DRIFT if is_drift else said.kind,
        "count": said.count,
        "reason": said.reason,
        "code": code_of(said.reason),
        "id": said.result_id,
    }
