"""Batches of records as a fetch brings them; for each record that cannot be read there is one that says why.

kafka-python raises where a batch is damaged, or is compressed by what is not installed, and can neither say which
record it was nor go past it: one batch would stop the line (decisions/0014 and 0034).
"""

from __future__ import annotations

from collections.abc import Iterator

from kafka.errors import CorruptRecordError
from kafka.record import memory_records
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.util import decode_varint

from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.messages.frames import UNREADABLE
from quarterturn.worker.transport.kafka import codecs


class Unreadable(bytes):
    """Stands, empty, for the value of a record that cannot be read; `error` says why."""

    error: FrameError

    @classmethod
    def because(cls, error: FrameError) -> Unreadable:
        """One whose `error` this is."""
        made = cls()
        made.error = error
        return made


class Batch(DefaultRecordBatch):  # type: ignore[misc]  # kafka-python has no types
    """kafka-python's batch (KIP-98), which gives a record for each offset whatever its bytes are."""

    _buffer: bytearray
    _pos: int

    def __init__(self, buffer: memoryview) -> None:
        super().__init__(buffer)
        self._damage: FrameError | None = None

    def validate_crc(self) -> bool:
        """Whether its records can be given: with a wrong checksum as unreadable ones, if we know how many they are."""
        if super().validate_crc():
            return True
        self._damage = _corrupt("its checksum is wrong")
        return self._is_dense and not self.is_control_batch

    def __iter__(self) -> Iterator[DefaultRecord]:
        """The records, in order."""
        offset = self.base_offset
        try:
            self._unpack()
            while (record := next(self, None)) is not None:
                if not offset <= record.offset <= (offset if self._is_dense else self.last_offset):
                    raise _corrupt(f"it claims the offset {record.offset}")
                yield record
                offset = record.offset + 1
        except (FrameError, CorruptRecordError) as error:
            fault = error if isinstance(error, FrameError) else _corrupt(str(error))
            for lost in range(offset, self.next_offset):
                yield self._stand_in(lost, fault)

    @property
    def _is_dense(self) -> bool:
        """Whether there is a record for each offset: only compaction takes some away."""
        dense: bool = self.records_count == self.last_offset_delta + 1
        return dense

    def _unpack(self) -> None:
        if self._damage is not None:
            raise self._damage
        if self.compression_type != self.CODEC_NONE:
            self._buffer = codecs.unpack(self.compression_type, bytes(memoryview(self._buffer)[self._pos :]))
            self._pos = 0

    def _stand_in(self, offset: int, fault: FrameError) -> DefaultRecord:
        value = Unreadable.because(fault)
        return DefaultRecord(0, offset, self.first_timestamp, self.timestamp_type, None, value, [])

    def _read_msg(self) -> DefaultRecord:
        """kafka-python's reader; it alone would stop at a header whose name is not UTF-8."""
        try:
            return super()._read_msg()
        except UnicodeDecodeError:
            _mend_names(self._buffer, self._pos)
            return super()._read_msg()


def _corrupt(why: str) -> FrameError:
    return FrameError("corrupt_record", f"the record is damaged ({why}); check the broker's disk, and publish it again")


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


memory_records.DefaultRecordBatch = Batch  # of which it makes what a fetch brings
