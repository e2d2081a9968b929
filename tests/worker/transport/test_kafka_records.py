"""Records that are compressed, damaged or odd: each becomes one frame, which can be inspected or says why not."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import crc32c
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from quarterturn.worker.contract.errors import FrameError, UnavailableError
from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.settings.worker import KafkaSettings, Topics
from quarterturn.worker.transport.kafka import codecs
from quarterturn.worker.transport.kafka.results import ResultReader
from quarterturn.worker.transport.kafka.topics import create_topics as create_line
from quarterturn.worker.transport.kafka.transport import KafkaTransport
from tests import services
from tests.worker.transport import librdkafka
from tests.worker.transport.workers import outcomes, poll, settings_for, wait_until

CreateTopics = Callable[[int], Topics]
repeatable = profile(derandomize=True, deadline=None)
CODECS = ("gzip", "snappy", "lz4", "zstd")
FRAMES = [bytes([n]) * 1000 + os.urandom(100) + b"." * n for n in range(7)]


def produce_batch(bootstrap: str, topic: str, frames: list[bytes], codec: str = "none") -> None:
    """Append `frames` as one batch, which waits for the flush."""
    producer = librdkafka.producer(bootstrap, **{"compression.type": codec, "linger.ms": 10_000})
    producer.list_topics(topic, 20)  # else the flush may find the first frame in its partition, the others on their way
    for frame in frames:
        producer.produce(topic, frame, b"cam", headers=[("camera", b"top-01")])
    assert producer.flush(20) == 0


def drain(transport: KafkaTransport, count: int) -> list[Frame]:
    """Poll and deliver so many frames."""
    drained: list[Frame] = []
    while len(drained) < count:
        frames = poll(transport, count - len(drained))
        transport.deliver(outcomes(frames))
        drained += frames
    return drained


def fault(frame: Frame) -> tuple[str, str]:
    with pytest.raises(FrameError) as caught:
        frame.info()
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("by", ["the camera", "the broker"])  # librdkafka, and Java with its own framing of snappy
def test_compressed_frames_are_read(kafka_bootstrap: str, create_topics: CreateTopics, *, codec: str, by: str) -> None:
    topics = create_topics(1)
    if by == "the broker":
        librdkafka.configure(kafka_bootstrap, topics.frames, compression_type=codec)
    settings = settings_for(kafka_bootstrap, topics)
    produce_batch(kafka_bootstrap, topics.frames, FRAMES, codec if by == "the camera" else "none")
    produce_batch(kafka_bootstrap, topics.frames, [b"behind"])
    with closing(KafkaTransport(settings)) as transport:
        first = drain(transport, 3)
    with closing(KafkaTransport(settings)) as transport:  # its first frame is in the middle of the batch
        frames = first + drain(transport, len(FRAMES) - 2)
    assert [frame.data for frame in frames] == [*FRAMES, b"behind"]
    assert [frame.position.offset for frame in frames] == list(range(len(FRAMES) + 1))
    assert {frame.info().camera for frame in frames} == {"top-01"}


@pytest.mark.parametrize("codec", CODECS)
def test_a_frame_of_a_codec_that_is_not_installed_is_a_dead_letter_that_names_the_package(
    kafka_bootstrap: str, create_topics: CreateTopics, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    monkeypatch.setitem(sys.modules, "cramjam", None)
    topics = create_topics(1)
    produce_batch(kafka_bootstrap, topics.frames, FRAMES, codec)
    produce_batch(kafka_bootstrap, topics.frames, [b"behind"])
    with closing(KafkaTransport(settings_for(kafka_bootstrap, topics))) as transport:
        frames = drain(transport, len(FRAMES) + 1)
    assert [frame.position.offset for frame in frames] == list(range(len(FRAMES) + 1))
    assert frames[-1].data == b"behind"
    if codec == "gzip":  # Python brings it along
        assert [frame.data for frame in frames[:-1]] == FRAMES
        return
    for frame in frames[:-1]:
        reason, message = fault(frame)
        assert reason == "not_unpacked"
        assert f"compressed with {codec}, which cannot be read here; install 'cramjam', or set compression" in message


@pytest.mark.parametrize("codec", CODECS)
def test_a_compression_bomb_is_a_dead_letter(
    kafka_bootstrap: str, create_topics: CreateTopics, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    monkeypatch.setattr(codecs, "MAX_UNPACKED_BYTES", 2**20)
    topics = create_topics(1)
    produce_batch(kafka_bootstrap, topics.frames, [bytes(2**21)], codec)
    produce_batch(kafka_bootstrap, topics.frames, [b"behind"], codec)
    with closing(KafkaTransport(settings_for(kafka_bootstrap, topics))) as transport:
        bomb, behind = drain(transport, 2)
    reason, message = fault(bomb)
    assert reason == "not_unpacked"
    assert f"compressed with {codec} and cannot be unpacked into 1,048,576 bytes" in message
    assert behind.data == b"behind"


def test_compressed_results_are_read(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    """A cluster may compress whatever is written to it."""
    topics = create_topics(1)
    librdkafka.configure(kafka_bootstrap, topics.verdicts, compression_type="zstd")
    settings = settings_for(kafka_bootstrap, topics)
    librdkafka.produce(kafka_bootstrap, topics.frames, [b"good", b"defect"])
    results: list[dict[str, object]] = []
    with closing(KafkaTransport(settings)) as transport, closing(ResultReader(settings)) as reader:
        drain(transport, 2)
        wait_until(lambda: bool(results.extend(reader.poll(0.2)) or len(results) >= 2), "the results")
    assert [result["alert"] for result in results] == [None, "defect"]


class Log:
    """The file in which a broker keeps partition 0 of a topic; it sends what is there, as it is."""

    def __init__(self, broker: services.Broker, topic: str) -> None:
        self._path = Path(broker.data, f"{topic}-0", "00000000000000000000.log")

    def change(self, *, offset: int, place: int, value: bytes, checksum: bool) -> None:
        """Overwrite bytes of the batch that begins with `offset`, by KIP-98's layout, and make its checksum right."""
        content = self._path.read_bytes()
        begin = 0
        while struct.unpack_from(">q", content, begin)[0] != offset:
            begin += 12 + struct.unpack_from(">i", content, begin + 8)[0]
        end = begin + 12 + struct.unpack_from(">i", content, begin + 8)[0]
        batch = bytearray(content[begin:end])
        at = place if place >= 0 else len(batch) + place
        assert batch[at : at + len(value)] != value
        batch[at : at + len(value)] = value
        if checksum:
            struct.pack_into(">I", batch, 17, crc32c.crc32c(bytes(batch[21:])))
        with self._path.open("r+b") as file:
            file.seek(begin)
            file.write(batch)


RECORDS = 61  # where they begin in a batch
NONSENSE = b"\xff\xff\xfe\xfe\xff\xff\xfe\xfe"
DAMAGES = [
    {"place": -30, "value": NONSENSE, "checksum": False},  # as a disk does it
    {"place": RECORDS, "value": NONSENSE, "checksum": True},  # as a camera does that compresses wrongly
    {"place": -8, "value": NONSENSE, "checksum": True},
    {"place": 21, "value": struct.pack(">h", 7), "checksum": True},  # a codec that nobody knows yet
]


def damaged_line(broker: services.Broker, name: str, codec: str, damages: Sequence[dict[str, Any]]) -> KafkaSettings:
    """A line with a batch for each of `damages`, and a frame b"behind" after each."""
    topics = Topics(frames=name, verdicts=f"{name}-v", alerts=f"{name}-a", dead_letters=f"{name}-d")
    settings = settings_for(broker.bootstrap, topics)
    create_line(settings, 1)
    librdkafka.configure(broker.bootstrap, topics.frames, compression_type="producer")
    for number, damage in enumerate(damages):
        produce_batch(broker.bootstrap, topics.frames, FRAMES, codec)
        produce_batch(broker.bootstrap, topics.frames, [b"behind"], codec)
        Log(broker, topics.frames).change(offset=number * (len(FRAMES) + 1), **damage)
    return settings


@pytest.mark.parametrize("codec", ["none", *CODECS])
def test_what_is_damaged_is_a_dead_letter_and_the_line_goes_on(broker: services.Broker, codec: str) -> None:
    settings = damaged_line(broker, f"damaged-{codec}", codec, DAMAGES)
    step = len(FRAMES) + 1
    with closing(KafkaTransport(settings)) as transport:
        frames = drain(transport, step * len(DAMAGES))
    assert [frame.position.offset for frame in frames] == list(range(len(frames)))
    inside = "corrupt_record" if codec == "none" else "not_unpacked"
    for number, reason in enumerate(["corrupt_record", inside, inside, "not_unpacked"]):
        *batch, behind = frames[number * step : (number + 1) * step]
        assert behind.data == b"behind"
        whole = [frame.data for frame in batch if frame.fault is None]
        assert whole == FRAMES[: len(whole)]
        assert {fault(frame)[0] for frame in batch[len(whole) :]} == {reason}
        assert all(frame.data == b"" and frame.key is None for frame in batch[len(whole) :])


def test_a_batch_that_does_not_say_how_many_frames_it_had_stops_the_worker(broker: services.Broker) -> None:
    damage = {"place": 57, "value": NONSENSE[:4], "checksum": False}
    settings = damaged_line(broker, "damaged-header", "none", [damage])
    with (
        closing(KafkaTransport(settings)) as transport,
        pytest.raises(UnavailableError, match=r"'damaged-header', partition=0\) at offset 0 failed crc check"),
    ):
        poll(transport)


def batch_of(values: Sequence[bytes], codec: int) -> bytearray:
    """A batch with the offsets from 0 on, by kafka-python's own writer."""
    builder = MemoryRecordsBuilder(magic=2, compression_type=codec, batch_size=2**20)
    for value in values:
        builder.append(1000, b"cam", value, [("camera", b"top-01"), ("h\u00e4", b"")])
    builder.close()
    return bytearray(builder.buffer())


@repeatable
@given(
    values=st.lists(st.binary(max_size=50), min_size=1, max_size=5),
    codec=st.sampled_from([0, 1]),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=4),
)
def test_any_bytes_of_a_batch_give_a_record_for_each_offset(
    values: list[bytes], codec: int, changes: list[tuple[float, int]]
) -> None:
    batch = batch_of(values, codec)
    for place, byte in changes:
        batch[RECORDS + int(place * (len(batch) - RECORDS))] = byte
    struct.pack_into(">I", batch, 17, crc32c.crc32c(bytes(batch[21:])))
    (read,) = MemoryRecords(bytes(batch))
    assert read.validate_crc()
    records = list(read)
    assert [record.offset for record in records] == list(range(len(values)))
    if not changes:
        assert [record.value for record in records] == values


@repeatable
@given(codec=st.integers(1, 7), packed=st.binary(max_size=200), xerial=st.booleans())
def test_any_bytes_are_unpacked_or_refused(codec: int, packed: bytes, xerial: bool) -> None:
    if xerial:
        packed = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01" + packed
    with suppress(FrameError):
        codecs.unpack(codec, packed)


def test_a_frame_that_contradicts_itself_is_a_dead_letter_that_keeps_the_rest(
    kafka_bootstrap: str, create_topics: CreateTopics
) -> None:
    """Of two values nobody knows which is meant; the same value twice, or a header that is not read, is no matter."""
    topics = create_topics(1)
    twice = [("camera", b"top-01"), ("part_id", b"SN-1"), ("camera", b"top-01"), ("other", b"1"), ("other", b"2")]
    against = [("camera", b"top-01"), ("part_id", b"SN-1"), ("product", b"ring"), ("product", b"bracket")]
    nothing: list[tuple[str, bytes | None]] = [("camera", None), ("product", b"")]
    producer = librdkafka.producer(kafka_bootstrap)
    for headers in (twice, against, nothing):
        producer.produce(topics.frames, None, b"from-key", headers=headers)  # without a value, as a tombstone is
    assert producer.flush(20) == 0
    with closing(KafkaTransport(settings_for(kafka_bootstrap, topics))) as transport:
        same, other, empty = drain(transport, 3)
    assert same.info().camera == "top-01"
    assert fault(other) == (
        "bad_header",
        "header 'product' is there twice, with different values; correct the camera's publisher",
    )
    assert (other.legible().camera, other.legible().part_id, other.legible().product) == ("top-01", "SN-1", None)
    assert (empty.info().camera, empty.info().product, empty.data) == ("from-key", None, b"")
