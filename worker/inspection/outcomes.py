"""What comes of a frame, as it is published: its verdict, that it came too late, or a dead letter."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.times import now
from quarterturn.worker.contract.usual import Measures
from quarterturn.worker.inspection import heatmap
from quarterturn.worker.inspection.judge import Judgement
from quarterturn.worker.inspection.look import Look
from quarterturn.worker.messages.events import (
    DeadLetter,
    DeadLetterData,
    FramePosition,
    Late,
    LateData,
    ProcessingTimes,
    ResultData,
    Verdict,
    result_id,
)
from quarterturn.worker.messages.frames import MAX_HEADER_BYTES, Frame, FrameInfo, Legible
from quarterturn.worker.messages.notices import Notice


class Decided(NamedTuple):
    """What is decided of a frame, its heat map (h, w), and its measures, where somebody asks for them."""

    judgement: Judgement
    heat: Array
    measures: Measures | None


class Outcomes:
    """Puts together the outcomes of a line's frames; `engine` is the hash of the one that inspects them."""

    def __init__(self, line: str, engine: str) -> None:
        self._line, self._engine = line, engine

    def verdict(self, frame: Frame, look: Look, decided: Decided, *, bank: Bank, times: ProcessingTimes) -> Verdict:
        """The verdict on a frame by `bank`, whose batch took these `times`."""
        judgement, heat, measures = decided
        data = ResultData(
            **self._identity(frame, look.info),
            **_said(look.info),
            internal_recipe_id=self._engine,
            internal_configuration_id=bank.version,
            alert=judgement.alert,
            reason=judgement.reason,
            score=judgement.score,
            threshold=judgement.threshold,
            p_value=judgement.p_value,
            predicted_product=judgement.nearest,
            view_distances=list(judgement.view_distances),
            heat_map=heatmap.encode(heat) if heat.size > 1 else None,
            processing_times=times,
        )
        notices: dict[Notice, str] = {"depth_in_doubt": look.doubt} if look.doubt else {}
        notices.update(bank.manifest.pictures.differences(look.traits).items())
        return Verdict(frame.position, frame.key, data, heat, notices, measures)

    def late(self, frame: Frame, info: FrameInfo, age_ms: float, max_age_ms: float) -> Late:
        """A frame that is not inspected: it is older than its camera allows."""
        data = LateData(**self._identity(frame, info), **_said(info), age_ms=round(age_ms, 3), max_age_ms=max_age_ms)
        return Late(frame.position, frame.key, data)

    def dead_letter(self, frame: Frame, said: FrameInfo | Legible, error: FrameError) -> DeadLetter:
        """A frame that cannot be inspected, with what of its headers can be read."""
        data = DeadLetterData(
            **self._identity(frame, said),
            camera=said.camera,
            product_id=said.product,
            part_id=said.part_id,
            is_simulated=said.simulated,
            reason=error.reason,
            message=str(error),
            size=len(frame.data),
        )
        key = frame.key if frame.key and len(frame.key) <= MAX_HEADER_BYTES else None  # else the letter itself is dead
        return DeadLetter(frame.position, key, data)

    def _identity(self, frame: Frame, said: FrameInfo | Legible) -> _Identity:
        place, identity = frame.position, result_id(frame.position)
        return {
            "result_id": identity,
            "meas_id": identity,
            "job_id": self._line,
            "creation_time": now(),
            "frame": FramePosition(
                topic=place.topic,
                partition=place.partition,
                offset=place.offset,
                topic_id=place.topic_id,
                captured_at=said.captured_at,
            ),
        }


class _Identity(TypedDict):
    """What every outcome says of its frame, whether its headers can be read or not."""

    result_id: str
    meas_id: str
    job_id: str
    creation_time: str
    frame: FramePosition


class _Said(TypedDict):
    """What the frame's headers say."""

    camera: str
    product_id: str | None
    part_id: str | None
    is_simulated: bool


def _said(info: FrameInfo) -> _Said:
    return {
        "camera": info.camera,
        "product_id": info.product,
        "part_id": info.part_id,
        "is_simulated": info.simulated,
    }
