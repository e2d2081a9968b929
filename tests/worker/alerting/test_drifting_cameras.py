"""Cameras that drift, from pictures to alarms: through the inspector and the alerting of a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from quarterturn.worker.alerting.alerting import Alerting
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.alarms import Drift
from quarterturn.worker.messages.events import Verdict, events_of
from quarterturn.worker.settings.worker import CameraSettings
from tests.parts import NumpyPlacesEngine, bank_of, frame, png

Picture = npt.NDArray[np.uint8]
SIDE = 96


def part(
    rng: np.random.Generator,
    _: str = "ring",
    *,
    right: float = 0,
    blur: float = 0,
    light: float | tuple[float, float, float] = 1,
) -> Picture:
    """A plate with holes: its place, the lamp and the focus vary a little. `light`: of all colours, or of each."""
    x, y = SIDE / 2 + rng.normal(0, 0.6, 2) + [right, 0]
    picture = np.full((SIDE, SIDE, 3), 70, np.uint8)
    corner, opposite = np.rint(16 * np.array([[x - 30, y - 24], [x + 30, y + 24]])).astype(int).tolist()
    cv2.rectangle(picture, corner, opposite, (170, 165, 160), -1, cv2.LINE_AA, 4)
    for dx, dy, radius in ((-18, -10, 7), (16, -8, 5), (4, 12, 8)):
        middle = np.rint(16 * np.array([x + dx, y + dy])).astype(int).tolist()
        cv2.circle(picture, middle, 16 * radius, (40, 40, 45), -1, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(picture, (0, 0), max(0.3, rng.normal(1.2, 0.1) + blur)).astype(np.float32)
    lit = soft * np.asarray(light, np.float32) * rng.normal(1, 0.03) + rng.normal(0, 3, picture.shape)
    return np.clip(lit, 0, 255).astype(np.uint8)


@cache
def bank() -> Bank:
    return bank_of(NumpyPlacesEngine(), make=part)


def seen(pictures: Sequence[Picture]) -> list[Verdict]:
    """As a worker would deliver them, in batches of 16."""
    inspector, alerting = Inspector(NumpyPlacesEngine(), "line-1", 0.02), Alerting({"top-01": CameraSettings()})
    inspector.use(bank())
    verdicts = []
    for begin in range(0, len(pictures), 16):
        frames = [frame(png(one), begin + n) for n, one in enumerate(pictures[begin : begin + 16])]
        verdicts += [one for one in alerting.apply(inspector.inspect(frames)) if isinstance(one, Verdict)]
    inspector.close()
    assert len(verdicts) == len(pictures)
    return verdicts


def alarms(verdicts: Sequence[Verdict]) -> list[Drift]:
    return [event for verdict in verdicts for event in verdict.events if isinstance(event, Drift)]


Make = Callable[[np.random.Generator, int], Picture]
DRIFTS: dict[str, tuple[Make, str, str]] = {
    "the lamp ages": (lambda rng, n: part(rng, light=1 - 0.002 * n), "brightness", "pictures are darker: brightness "),
    "a lamp more": (lambda rng, _: part(rng, light=1.12), "brightness", "pictures are brighter: brightness "),
    "a warmer lamp": (lambda rng, _: part(rng, light=(1.03, 1, 0.97)), "colour", "pictures are "),
    "the lamp turns blue": (lambda rng, n: part(rng, light=(1, 1, 1 + 0.001 * n)), "colour", "pictures are bluer: "),
    "the focus goes": (lambda rng, _: part(rng, blur=0.5), "sharpness", "pictures are less sharp: "),
    "the camera is bumped": (
        lambda rng, _: part(rng, right=4),
        "registration",
        "parts lie further right, by about 4",
    ),
    "another way": (lambda rng, _: part(rng, right=-3), "registration", "parts lie further left, by about "),
}


@pytest.mark.parametrize("kind", DRIFTS)
def test_the_alarm_names_the_cause(kind: str) -> None:
    make, cause, says = DRIFTS[kind]
    rng = np.random.default_rng(1)
    found = alarms(seen([*(part(rng) for _ in range(60)), *(make(rng, n) for n in range(80))]))
    raised = [one for one in found if one.measure != "score"]
    assert [(one.state, one.measure) for one in raised] == [("raised", cause)]
    assert raised[0].frame.offset > 60
    assert raised[0].reason.startswith(says)


def test_good_parts_raise_nothing() -> None:
    rng = np.random.default_rng(2)
    assert alarms(seen([part(rng) for _ in range(300)])) == []


def test_alerts_that_a_drift_explains_are_held_below_its_event() -> None:
    """A bump that makes every part a defect: one event tells it, and the alerts end; the verdicts go on."""
    rng = np.random.default_rng(3)
    verdicts = seen([*(part(rng) for _ in range(40)), *(part(rng, right=5) for _ in range(80))])
    kinds = [[event.kind for event in events_of(one)] for one in verdicts]
    raised = {event.measure: event.frame.offset for event in alarms(verdicts)}
    assert raised.keys() == {"registration"}
    after = verdicts[raised["registration"] + 1 :]
    alerts = [one for one in after if one.is_alert]
    assert len(alerts) > len(after) / 2
    held = [one for one in alerts if one.held == "inhibited"]
    assert {one.data.alert for one in alerts} == {"defect"}
    assert len(held) > 0.8 * len(alerts)
    assert all("verdict" in one for one in kinds)
    assert kinds[raised["registration"]].count("drift") == 1
