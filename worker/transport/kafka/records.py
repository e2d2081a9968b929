"""From records to frames, and from outcomes to positions."""

from __future__ import annotations

from collections.abc import Sequence

from kafka import OffsetAndMetadata, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.util import decode_varint

from quarterturn.worker.messages.events import Outcome
from quarterturn.worker.messages.frames import UNREADABLE, Frame, Position


def frame_of(record: ConsumerRecord) -> Frame:
    """The frame that a record holds; of a header sent twice the last one counts."""
    headers = {name: value for name, value in record.headers if value is not None}
    return Frame(Position(record.topic, record.partition, record.offset), record.key, headers, record.value or b"")


def behind(outcomes: Sequence[Outcome]) -> dict[TopicPartition, OffsetAndMetadata]:
    """The positions behind the last frame of each partition."""
    last = {TopicPartition(o.position.topic, o.position.partition): o.position.offset for o in outcomes}
    return {partition: OffsetAndMetadata(offset + 1, "", -1) for partition, offset in last.items()}


_read_strictly = DefaultRecordBatch._read_msg


def _read_record(batch: DefaultRecordBatch) -> DefaultRecord:
    """kafka-python's reader; it alone would stop at a header whose name is not UTF-8, for good (decisions/0014)."""
    try:
        return _read_strictly(batch)
    except UnicodeDecodeError:
        _mend_names(batch._buffer, batch._pos)
        return _read_strictly(batch)


def _mend_names(buffer: bytearray, position: int) -> None:
    """Replace each byte of a header's name that is not ASCII by UNREADABLE, in the record (KIP-98) at `position`."""

    def skip() -> None:
        nonlocal position
        length, position = decode_varint(buffer, position)
        position += max(length, 0)  # below 0: null

    for _ in ("length", "attributes", "timestamp", "offset"):
        _, position = decode_varint(buffer, position)
    for _ in ("key", "value"):
        skip()
    headers, position = decode_varint(buffer, position)
    for _ in range(headers):
        length, start = decode_varint(buffer, position)
        name = buffer[start : start + length].decode("ascii", "replace").replace("\ufffd", UNREADABLE)
        buffer[start : start + length] = name.encode("ascii")
        position = start + length
        skip()  # its value


DefaultRecordBatch._read_msg = _read_record
