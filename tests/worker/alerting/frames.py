"""Verdicts of one camera, written in a line: `d` a defect, `t` turned, `p` another product, `u` unusable, `.` good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from quarterturn.worker.alerting.alerting import Alerting
from quarterturn.worker.messages.alarms import Episode
from quarterturn.worker.messages.events import AlertKind, Verdict
from quarterturn.worker.settings.worker import AlertSettings, CameraSettings
from tests import examples

KINDS: dict[str, AlertKind | None] = {
    ".": None,
    "d": "defect",
    "t": "wrong_orientation",
    "p": "wrong_product",
    "u": "unusable_picture",
}
NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)


def at(seconds: float) -> str:
    """So long after noon."""
    return (NOON + timedelta(seconds=seconds)).isoformat()


def verdict(
    sign: str, offset: int, *, partition: int = 0, second: float | None = None, inspected: float = 0, **changes: Any
) -> Verdict:
    """One verdict; `second` is when the frame was taken (None: it does not say), `inspected` when it was inspected."""
    made = examples.verdict(examples.frame(offset, partition), KINDS[sign])
    frame = made.data.frame.model_copy(update={"captured_at": None if second is None else at(second)})
    changes = {"frame": frame, "creation_time": at(inspected), **changes}
    return replace(made, data=made.data.model_copy(update=changes))


def alerting(**settings: Any) -> Alerting:
    """With these settings for the camera of the examples."""
    return Alerting({"top-01": CameraSettings(alerts=AlertSettings(**settings))})


def decided(of: Alerting, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts as they would be delivered."""
    found = of.apply(verdicts)
    assert all(isinstance(one, Verdict) for one in found)
    assert [one.data for one in found] == [one.data for one in verdicts], "nothing is withheld from the verdicts"
    return [one for one in found if isinstance(one, Verdict)]


def published(verdicts: Sequence[Verdict]) -> str:
    """Which alerts are published, as signs; `-` for what is held."""
    signs = {kind: sign for sign, kind in KINDS.items()}
    return "".join("-" if one.held else signs[one.data.alert] for one in verdicts)


def told(verdicts: Sequence[Verdict]) -> list[tuple[int, str, str, str, int]]:
    """Of each episode: the frame that it comes with, its state, its kind, its first frame and its count."""
    return [
        (one.position.offset, event.state, event.kind, event.since.result_id, event.count)
        for one in verdicts
        for event in one.events
        if isinstance(event, Episode)
    ]


def line(signs: str, **changes: Any) -> list[Verdict]:
    """A verdict a second."""
    return [verdict(sign, n, second=n, **changes) for n, sign in enumerate(signs)]
