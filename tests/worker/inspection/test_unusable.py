"""Pictures that cannot be judged, cameras that froze, and cameras unlike the bank's, through the inspector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.events import Outcome, Verdict, events_of
from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.settings.worker import CameraSettings
from tests.parts import NumpyPlacesEngine, bank_of, frame, good_part, png, scratched_part

Picture = npt.NDArray[np.uint8]
FROZEN = "the camera has sent the same picture {} times in a row"


@cache
def bank_in_service() -> Bank:
    return bank_of(NumpyPlacesEngine(), ("ring", "bracket"))


def inspector_of(thresholds: Mapping[str, float] | None = None, **camera: Any) -> Inspector:
    made = Inspector(NumpyPlacesEngine(), "line-1", 0.02, {"top-01": CameraSettings(**camera)}, thresholds)
    made.use(bank_in_service())
    return made


def said(outcomes: list[Outcome]) -> list[tuple[str | None, str | None]]:
    verdicts = [outcome for outcome in outcomes if isinstance(outcome, Verdict)]
    assert len(verdicts) == len(outcomes)
    return [(one.data.alert, one.data.reason) for one in verdicts]


def spoilt_parts() -> dict[str, Picture]:
    part = good_part(np.random.default_rng(1))
    return {
        "black": np.zeros_like(part),
        "white": np.full_like(part, 255),
        "grey": np.full_like(part, 115),
        "a tenth of the light": part // 10,
        "four times the light": cv2.convertScaleAbs(part, alpha=4).astype(np.uint8),
        "blurred": cv2.GaussianBlur(part, (0, 0), 4).astype(np.uint8),
        "noise": np.random.default_rng(2).integers(0, 256, part.shape).astype(np.uint8),
    }


@pytest.mark.parametrize("kind", spoilt_parts())
@pytest.mark.parametrize("declared", [{"product": "ring"}, {}], ids=["declared", "any product"])
def test_a_picture_that_cannot_be_judged_is_an_alert_whatever_it_scores(kind: str, declared: dict[str, str]) -> None:
    inspector = inspector_of({"ring": 1e6, "bracket": 1e6})  # thresholds that nothing passes
    (outcome,) = inspector.inspect([frame(png(spoilt_parts()[kind]), **declared)])
    assert isinstance(outcome, Verdict)
    assert outcome.data.alert == "unusable_picture"
    assert outcome.data.reason
    assert 0 <= outcome.data.score < outcome.data.threshold == 1e6
    assert outcome.data.predicted_product in ("ring", "bracket")
    assert [event.kind for event in events_of(outcome)] == ["verdict", "alert"]


@pytest.mark.parametrize("kind", spoilt_parts())
def test_the_guard_can_be_switched_off(kind: str) -> None:
    inspector = inspector_of({"ring": 1e6, "bracket": 1e6}, guard=False)
    assert said(inspector.inspect([frame(png(spoilt_parts()[kind]))])) == [(None, None)]


def test_good_and_defective_parts_are_judged_as_ever() -> None:
    rng = np.random.default_rng(3)
    parts = [good_part(rng), scratched_part(rng), np.rot90(good_part(rng)), good_part(rng, "bracket")]
    outcomes = inspector_of().inspect([frame(png(part), n, product="ring") for n, part in enumerate(parts)])
    assert [alert for alert, _ in said(outcomes)] == [None, "defect", "wrong_orientation", "wrong_product"]
    assert {reason for _, reason in said(outcomes)} == {None}


def test_another_product_is_measured_beside_its_own_good_pictures() -> None:
    """A bracket so dark that it would be unusable as a ring is none: it is a bracket."""
    bank, rng = bank_in_service(), np.random.default_rng(3)
    guard = bank.guard.copy()
    guard[0, 0] = 150, 255  # rings are brighter than this bracket
    inspector = Inspector(NumpyPlacesEngine(), "line-1", 0.02)
    inspector.use(replace(bank, guard=guard))
    bracket = png(good_part(rng, "bracket"))
    outcomes = inspector.inspect([frame(bracket, 0, product="ring"), frame(bracket, 1), frame(b"", 2)])[:2]
    assert said(outcomes) == [("wrong_product", None), (None, None)]
    (dark,) = said(inspector.inspect([frame(png(good_part(rng, "bracket") // 8), 3, product="ring")]))
    assert dark[0] == "unusable_picture"


def same(count: int, start: int = 0, **headers: str) -> list[Frame]:
    """One good picture again and again."""
    return [frame(png(good_part(np.random.default_rng(4))), start + n, **headers) for n in range(count)]


def test_a_camera_that_sends_the_same_picture_again_and_again_is_frozen() -> None:
    inspector = inspector_of()
    told = said(inspector.inspect(same(3)) + inspector.inspect(same(4, 3)))
    assert told == [(None, None)] * 4 + [("unusable_picture", FROZEN.format(n)) for n in (5, 6, 7)]
    other = frame(png(good_part(np.random.default_rng(5))), 7)
    assert said(inspector.inspect([other, *same(1, 8)])) == [(None, None)] * 2


@pytest.mark.parametrize("limit", [2, 3, None])
def test_how_often_is_a_setting(limit: int | None) -> None:
    told = said(inspector_of(frozen_after=limit).inspect(same(4)))
    assert [alert is None for alert, _ in told] == [limit is None or n < limit for n in range(1, 5)]


def test_the_same_pixels_in_other_bytes_are_the_same_picture() -> None:
    part = cv2.cvtColor(good_part(np.random.default_rng(4)), cv2.COLOR_RGB2BGR)
    frames = [
        frame(cv2.imencode(".png", part, [cv2.IMWRITE_PNG_COMPRESSION, level])[1].tobytes(), level)
        for level in (0, 1, 5, 9)
    ]
    assert len({one.data for one in frames}) == 4
    assert said(inspector_of(frozen_after=4).inspect(frames))[3] == ("unusable_picture", FROZEN.format(4))


def test_what_is_marked_as_simulated_may_repeat_itself() -> None:
    """As `quarterturn camera --loop` does with a folder of one picture."""
    assert said(inspector_of().inspect(same(12, simulated="true"))) == [(None, None)] * 12


def test_frames_that_come_again_after_a_rewind_are_judged_as_before() -> None:
    inspector = inspector_of()
    first = said(inspector.inspect(same(4)))
    for _ in range(3):
        assert said(inspector.inspect(same(4))) == first == [(None, None)] * 4
    assert said(inspector.inspect(same(1, 4))) == [("unusable_picture", FROZEN.format(5))]


def test_cameras_are_counted_apart_and_dead_letters_not_at_all() -> None:
    inspector = inspector_of()
    one, two = same(8), same(8, camera="side-02")
    mixed = [each for pair in zip(one, two, strict=True) for each in pair]
    outcomes = inspector.inspect([frame(b"broken", 0), *mixed[:5]])[1:] + inspector.inspect(mixed[5:9])
    assert [alert for alert, _ in said(outcomes)] == [None] * 8 + ["unusable_picture"]


@pytest.mark.parametrize(
    ("data", "differs"),
    [
        (png(good_part(np.random.default_rng(6))), set()),
        (cv2.imencode(".png", good_part(np.random.default_rng(6))[..., 0])[1].tobytes(), {"picture_colour"}),
        (
            cv2.imencode(".png", good_part(np.random.default_rng(6)).astype(np.uint16) * 257)[1].tobytes(),
            {"picture_depth"},
        ),
        (png(cv2.resize(good_part(np.random.default_rng(6)), (64, 32)).astype(np.uint8)), {"picture_size"}),
    ],
    ids=["alike", "grey", "deep", "wide"],
)
def test_a_verdict_says_how_the_picture_differs_from_the_banks(data: bytes, differs: set[str]) -> None:
    (outcome,) = inspector_of().inspect([frame(data)])
    assert isinstance(outcome, Verdict)
    assert outcome.notices.keys() == differs
    assert "notice" not in outcome.data.model_dump_json()
