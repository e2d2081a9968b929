"""A line that publishes what it is told to: frames, and results as a worker writes them, through librdkafka."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from confluent_kafka import Message

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.inspection import heatmap
from quarterturn.worker.messages.events import (
    DeadLetter,
    DeadLetterData,
    FramePosition,
    Late,
    LateData,
    Outcome,
    ProcessingTimes,
    ResultData,
    Verdict,
    events_of,
    result_id,
)
from quarterturn.worker.messages.frames import Position
from quarterturn.worker.settings.worker import Topics, WorkerSettings
from tests.worker.transport import librdkafka

BANK = "5eed" * 16
TOKENS = {"anna": "annas-token-of-24-letters", "bert": "berts-token-of-24-letters"}
HEAT = np.zeros((8, 8), np.float32)
HEAT[2:4, 4:6] = 3.0


@dataclass(frozen=True)
class Made:
    """One frame with its result; `ratio` is the score in thresholds; without a picture the frame is gone."""

    kind: str | None = None
    camera: str = "top-01"
    product: str = "ring"
    part: str | None = None
    ratio: float | None = None
    picture: bytes | None = None
    heat: Array | None = None
    reason: str | None = None
    code: str = "undecodable"  # of a dead letter
    ago_s: float = 0.0
    looks_like: str | None = None


def jpeg(colour: tuple[int, int, int] = (90, 120, 150), width: int = 120, height: int = 80) -> bytes:
    """A picture of one colour, RGB."""
    picture = np.full((height, width, 3), colour, np.uint8)
    return cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes()


def defects(count: int, **made: Any) -> list[Made]:
    """The first one is the newest, so it stands at the top of the list."""
    return [
        Made("defect", part=f"part-{n}", picture=jpeg((40 + 9 * n, 90, 150)), ago_s=n, **made) for n in range(count)
    ]


class PretendLine:
    """Publishes to the topics of one line."""

    def __init__(self, bootstrap: str, topics: Topics) -> None:
        self.bootstrap, self.topics = bootstrap, topics
        self._producer = librdkafka.producer(bootstrap, **{"linger.ms": 5})
        self._next = 0

    def settings(self, folder: Path, console: dict[str, Any] | None = None, **more: Any) -> WorkerSettings:
        """Of a console of this line, with its index below `folder`."""
        return WorkerSettings.model_validate(
            {
                "line": "line-1",
                "engine": {"path": "engine"},
                "bank": {"file": {"path": str(folder / "banks")}},
                "transport": {
                    "kafka": {"bootstrap_servers": self.bootstrap, "topics": self.topics.model_dump()},
                },
                "console": {"port": 0, "state": str(folder / "state"), **(console or {})},
                **more,
            }
        )

    def publish(self, *parts: Made) -> list[str]:
        """Publish frames and results; gives the results' ids."""
        positions = self._frames(parts)
        outcomes = [outcome_of(part, position) for part, position in zip(parts, positions, strict=True)]
        for outcome in outcomes:
            for event in events_of(outcome):
                topic = {"verdict": self.topics.verdicts, "alert": self.topics.alerts}.get(
                    event.kind, self.topics.dead_letters if event.kind == "dead_letter" else self.topics.verdicts
                )
                self._producer.produce(topic, event.value, event.key, headers=list(event.headers))
            self._producer.poll(0)
        assert self._producer.flush(60) == 0
        return [outcome.data.result_id for outcome in outcomes]

    def raw(self, topic: str, value: bytes, key: bytes = b"key") -> None:
        """Publish anything."""
        self._producer.produce(topic, value, key)
        assert self._producer.flush(60) == 0

    def said(self) -> dict[str, dict[str, Any]]:
        """The last record on each result, as it stands in the topic of feedback."""
        records = librdkafka.consume(self.bootstrap, self.topics.feedback)
        return {word["resultId"]: word for word in (json.loads(record.value()) for record in records)}

    def judgements(self) -> dict[str, str]:
        """The verdicts of it."""
        return {result: word["verdict"] for result, word in self.said().items()}

    def _frames(self, parts: Sequence[Made]) -> list[Position]:
        positions = []
        for part in parts:
            if part.picture is None:
                self._next += 1
                positions.append(Position(self.topics.frames, 0, 10**9 + self._next))
                continue
            told: list[Message] = []
            self._producer.produce(
                self.topics.frames,
                part.picture,
                b"key",
                headers=[("camera", part.camera.encode()), ("product", part.product.encode())],
                on_delivery=lambda _, message, told=told: told.append(message),
            )
            assert self._producer.flush(60) == 0
            positions.append(Position(self.topics.frames, told[0].partition(), told[0].offset()))
        return positions


def outcome_of(part: Made, position: Position) -> Outcome:
    at_s = time.time() - part.ago_s
    common: dict[str, Any] = {
        "result_id": result_id(position),
        "meas_id": str(position),
        "part_id": part.part,
        "job_id": "line-1",
        "creation_time": _iso(at_s),
        "product_id": part.product,
        "camera": part.camera,
        "frame": FramePosition(
            topic=position.topic, partition=position.partition, offset=position.offset, captured_at=_iso(at_s - 0.05)
        ),
    }
    if part.kind == "late":
        return Late(position, b"cam", LateData(**common, age_ms=2000, max_age_ms=900))
    if part.kind == "dead_letter":
        dead = DeadLetterData(**common, reason=part.code, message=part.reason or "it is no picture", size=3)
        return DeadLetter(position, b"cam", dead)
    ratio = part.ratio if part.ratio is not None else 1.8 if part.kind else 0.4
    data = ResultData(
        **common,
        internal_recipe_id="e" * 64,
        internal_configuration_id=BANK,
        alert=part.kind,
        reason=part.reason,
        score=ratio * 2,
        threshold=2.0,
        p_value=0.01 if part.kind else 0.4,
        predicted_product=part.looks_like or part.product,
        view_distances=[1.0],
        heat_map=heatmap.encode(HEAT if part.heat is None else part.heat),
        processing_times=ProcessingTimes(decode_ms=1, embed_ms=20, score_ms=2, total_ms=30),
    )
    return Verdict(position, b"cam", data)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
