"""From records to frames."""

from __future__ import annotations

from collections.abc import Iterable

from kafka.consumer.fetcher import ConsumerRecord

from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.messages.frames import HEADERS, Frame, Position
from quarterturn.worker.transport.kafka.batches import Unreadable


def frame_of(record: ConsumerRecord, topic_id: str | None, stretch: int = 0) -> Frame:
    """The frame that a record of the topic `topic_id` holds, see Position; a header without a value is none."""
    headers, fault = _headers((name, value) for name, value in record.headers if value is not None)
    if isinstance(record.value, Unreadable):
        fault = record.value.error
    position = Position(record.topic, record.partition, record.offset, topic_id, stretch)
    return Frame(position, record.key, headers, record.value or b"", fault)


def _headers(pairs: Iterable[tuple[str, bytes]]) -> tuple[dict[str, bytes], FrameError | None]:
    """The headers by name, and what is wrong with them: of two different values nobody knows which is meant."""
    headers: dict[str, bytes] = {}
    contradictory: set[str] = set()
    for name, value in pairs:
        if headers.setdefault(name, value) != value and name in HEADERS:
            contradictory.add(name)
    if not contradictory:
        return headers, None
    for name in contradictory:
        del headers[name]
    text = f"header '{min(contradictory)}' is there twice, with different values; correct the camera's publisher"
    return headers, FrameError("bad_header", text)
