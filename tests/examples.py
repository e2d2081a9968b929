"""Frames and outcomes for tests that need some, no matter which."""

from __future__ import annotations

import base64
from dataclasses import replace

import cv2
import numpy as np

from quarterturn.worker.contract.times import now
from quarterturn.worker.messages.alarms import Drift, Episode, Since, of_frame
from quarterturn.worker.messages.events import (
    AlarmState,
    AlertKind,
    DeadLetter,
    DeadLetterData,
    FramePosition,
    Late,
    LateData,
    Outcome,
    ProcessingTimes,
    ResultData,
    Verdict,
    result_id,
)
from quarterturn.worker.messages.frames import Frame, Position

HEAT_MAP = base64.b64encode(cv2.imencode(".png", np.array([[0, 64], [128, 255]], np.uint8))[1].tobytes()).decode()


def frame(offset: int = 0, partition: int = 0, topic: str = "frames", data: bytes = b"picture") -> Frame:
    return Frame(Position(topic, partition, offset), b"top-01", {"camera": b"top-01"}, data)


def verdict(of: Frame, alert: AlertKind | None = None, heat_map: str | None = None) -> Verdict:
    data = ResultData(
        result_id=result_id(of.position),
        meas_id=result_id(of.position),
        part_id=of.headers.get("part_id", b"").decode() or None,
        job_id="line-3",
        creation_time=now(),
        internal_recipe_id="e" * 64,
        internal_configuration_id="b" * 64,
        camera="top-01",
        alert=alert,
        reason="too dark: brightness 3 of 41 to 190" if alert == "unusable_picture" else None,
        score=2.5 if alert else 0.5,
        threshold=1.0,
        p_value=0.005 if alert else 0.4,
        predicted_product="screw",
        view_distances=[0.5, 0.6, 0.7, 0.8],
        heat_map=heat_map,
        frame=_position(of),
        processing_times=ProcessingTimes(decode_ms=1.0, embed_ms=2.0, score_ms=0.5, total_ms=4.0),
    )
    return Verdict(of.position, of.key, data)


def with_episode(of: Verdict, state: AlarmState) -> Verdict:
    """`of`, which begins a run of defects, goes on with one, or ends one of 14."""
    episode = Episode(
        result_id=of.data.result_id,
        meas_id=of.data.meas_id,
        job_id=of.data.job_id,
        creation_time=of.data.creation_time,
        camera=of.data.camera,
        frame=of.data.frame,
        state=state,
        kind="defect",
        since=Since(result_id="frames:0:1", time="2026-01-01T12:00:00.000Z"),
        count=1 if state == "raised" else 14,
    )
    return replace(of, events=(episode,))


def with_drift(of: Verdict, state: AlarmState) -> Verdict:
    """`of`, with which an alarm is raised that pictures get darker, or cleared."""
    drift = Drift(
        **of_frame(of.data),
        state=state,
        measure="brightness",
        quantity="brightness",
        since=Since(result_id="frames:0:1", time="2026-01-01T12:00:00.000Z"),
        frames=1841,
        evidence=3.7,
        usual=120.5,
        present=112.0 if state == "raised" else None,
        reason="pictures are darker: brightness 112, usually 120",
    )
    return replace(of, events=(*of.events, drift))


def dead_letter(of: Frame, reason: str = "truncated") -> DeadLetter:
    data = DeadLetterData(
        result_id=result_id(of.position),
        meas_id=result_id(of.position),
        job_id="line-3",
        creation_time=now(),
        reason=reason,
        message="the picture ends early",
        camera="top-01",
        frame=_position(of),
        size=len(of.data),
    )
    return DeadLetter(of.position, of.key, data)


def late(of: Frame) -> Late:
    data = LateData(
        result_id=result_id(of.position),
        meas_id=result_id(of.position),
        job_id="line-3",
        creation_time=now(),
        camera="top-01",
        age_ms=1300.0,
        max_age_ms=900.0,
        frame=_position(of),
    )
    return Late(of.position, of.key, data)


def outcome(of: Frame) -> Outcome:
    """A dead letter, a late frame or an alert where the picture says so, else a good verdict."""
    if of.data.startswith(b"late"):
        return late(of)
    if of.data.startswith(b"broken"):
        return dead_letter(of)
    return verdict(of, "defect" if of.data.startswith(b"defect") else None)


def _position(of: Frame) -> FramePosition:
    place = of.position
    return FramePosition(topic=place.topic, partition=place.partition, offset=place.offset, topic_id=place.topic_id)
