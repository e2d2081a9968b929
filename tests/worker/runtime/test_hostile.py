"""Whatever is sent as a frame ends in a verdict or in a dead letter with a stable reason, in bounded memory."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import KafkaError
from kafka import KafkaProducer
from kafka.consumer.fetcher import ConsumerRecord
from PIL import Image

from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.events import DeadLetter, Outcome, Verdict, events_of
from quarterturn.worker.messages.frames import UNREADABLE, Frame
from quarterturn.worker.pictures.decode import decode_picture
from quarterturn.worker.runtime.health import Health
from quarterturn.worker.runtime.service import Service
from quarterturn.worker.settings.worker import BatchSettings, KafkaSettings, Topics
from quarterturn.worker.transport.kafka.records import frame_of
from quarterturn.worker.transport.kafka.topics import create_topics as create_line
from quarterturn.worker.transport.kafka.transport import KafkaTransport
from quarterturn.worker.transport.memory import MemoryTransport
from tests import hostile
from tests.hostile import FRAMES, PICTURE, Hostile
from tests.parts import NumpyEngine, bank_of, frame, good_part, png
from tests.worker.transport import librdkafka

ROOT = Path(__file__).parents[3]
GOOD = png(good_part(np.random.default_rng(3)))


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    engine = NumpyEngine()
    made = Inspector(engine, "line-1", overkill=0.02)
    made.use(bank_of(engine))
    yield made
    made.close()


def as_frame(one: Hostile, offset: int = 0) -> Frame:
    """As the transport would hand it over."""
    headers = [
        (name if isinstance(name, str) else name.decode("ascii", "replace").replace("\ufffd", UNREADABLE), value)
        for name, value in one.headers
    ]
    record = ConsumerRecord("frames", 0, 0, offset, 0, 0, one.key, one.data, headers, None, 0, 0, 0)
    return frame_of(record, None)


def reason(outcome: Outcome) -> str | None:
    return outcome.data.reason if isinstance(outcome, DeadLetter) else None


@pytest.mark.parametrize("one", FRAMES.values(), ids=FRAMES.keys())
def test_every_frame_ends_in_a_verdict_or_a_dead_letter(one: Hostile, inspector: Inspector) -> None:
    good, (outcome,), after = (inspector.inspect([each]) for each in (frame(GOOD), as_frame(one), frame(GOOD)))
    assert reason(outcome) == one.reason
    if isinstance(outcome, DeadLetter):
        assert re.search(one.says, outcome.data.message)
    for event in events_of(outcome):
        assert len(event.value) + len(event.key or b"") < 10_000
    assert isinstance(good[0], Verdict)
    assert isinstance(after[0], Verdict)


def test_every_reason_is_documented_and_no_other() -> None:
    """The list is a promise to those who read dead letters."""
    text = (ROOT / "docs" / "kafka.md").read_text(encoding="utf-8")
    section = text.partition("## Dead letters")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    raised = {
        found
        for path in (ROOT / "worker").rglob("*.py")
        for found in re.findall(r'FrameError\(\s*"(\w+)"', path.read_text(encoding="utf-8"))
    }
    assert sorted(documented) == sorted(raised)
    assert {one.reason for one in FRAMES.values() if one.reason} <= raised


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_a_picture_cut_off_anywhere_is_a_dead_letter(kind: str, inspector: Inspector) -> None:
    whole = hostile.saved(kind, PICTURE.resize((7, 5)))
    outcomes = inspector.inspect([frame(whole[:length], length) for length in range(len(whole) + 1)])
    assert {reason(outcome) for outcome in outcomes[:-1]} <= {"empty", "truncated", "undecodable"}
    assert None not in {reason(outcome) for outcome in outcomes[:-1]}
    assert isinstance(outcomes[-1], Verdict)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_picture_is_turned_as_its_exif_says(kind: str) -> None:
    """EXIF wins over the order of the pixels; 6 says that the camera's right side was up."""
    options = {"lossless": True} if kind == "WEBP" else {}
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, plain = (
        decode_picture(hostile.saved(kind, exif=exif, **options)),
        decode_picture(hostile.saved(kind, **options)),
    )
    np.testing.assert_array_equal(turned, np.rot90(plain, -1))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_the_first_picture_of_an_animation_counts(kind: str) -> None:
    first = decode_picture(hostile.animated(kind)).astype(int)
    difference = np.abs(first - np.asarray(PICTURE).astype(int)).mean()
    assert difference < 1  # the other pictures differ by 85


def test_bombs_take_no_memory() -> None:
    """Measured in a process of its own: its peak is that of nothing else."""
    script = """
        import resource
        from tests.hostile import FRAMES
        from quarterturn.worker.contract.errors import FrameError
        from quarterturn.worker.pictures.decode import decode_picture
        bombs = [one.data for one in FRAMES.values() if one.memory and len(one.headers) == 1]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for bomb in bombs:
            try:
                decode_picture(bomb)
            except FrameError:
                pass
        print(len(bombs), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    bombs, grown_kib = map(int, done.stdout.split())
    assert bombs >= 8
    assert grown_kib < 5_000


def test_made_up_cameras_do_not_fill_the_memory() -> None:
    engine = NumpyEngine()
    inspector, health = Inspector(engine, "line-1", overkill=0.02), Health()
    inspector.use(bank_of(engine))
    transport = MemoryTransport([frame(b"", n, camera=f"camera {n}") for n in range(1200)])
    transport_of_good = MemoryTransport([frame(GOOD, n, camera=f"good {n}") for n in range(1200)])
    for each in (transport, transport_of_good):
        Service(each, inspector, health, BatchSettings()).run(threading.Event())
    inspector.close()
    samples = [sample for metric in health.registry.collect() for sample in metric.samples]
    cameras = {sample.labels["camera"] for sample in samples if sample.name == "quarterturn_frames_total"}
    assert len(cameras) <= 1002
    counted = sum(sample.value for sample in samples if sample.name == "quarterturn_frames_total")
    assert counted == 2400
    for outcome, others in (("dead_letter", 200), ("good", 1200)):
        labels = {"camera": "other", "outcome": outcome}
        value = health.registry.get_sample_value("quarterturn_frames_total", labels)
        assert value == pytest.approx(others, abs=30)  # some good parts are alerts


class RawName(str):
    """A header's name of any bytes: librdkafka sends none that is not UTF-8, kafka-python asks the name itself."""

    def __new__(cls, name: bytes) -> RawName:
        made = super().__new__(cls, name.decode("latin-1"))
        made.name = name
        return made

    name: bytes

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.name


def produce(bootstrap: str, topic: str, frames: Iterable[Hostile]) -> None:
    """Append `frames` in order."""
    ours, theirs = librdkafka.producer(bootstrap), KafkaProducer(bootstrap_servers=bootstrap)
    for one in frames:
        if any(isinstance(name, bytes) for name, _ in one.headers):
            headers = [(RawName(name) if isinstance(name, bytes) else name, value) for name, value in one.headers]
            assert ours.flush(20) == 0
            theirs.send(topic, one.data, one.key, headers=headers, partition=0).get(20)
        else:
            ours.produce(topic, one.data, one.key, headers=list(one.headers), partition=0)
    assert ours.flush(60) == 0
    theirs.close()


def test_every_frame_through_real_kafka(
    kafka_bootstrap: str, create_topics: Callable[[int], Topics], inspector: Inspector, caplog: pytest.LogCaptureFixture
) -> None:
    """None stops the worker, none is lost or skipped, and the good frames between them get their verdicts."""
    topics = create_topics(1)
    settings = KafkaSettings(bootstrap_servers=kafka_bootstrap, topics=topics, group=topics.frames)
    frames = [each for one in FRAMES.values() for each in (one, Hostile(GOOD, None))]
    produce(kafka_bootstrap, topics.frames, frames)

    stop, transport = threading.Event(), KafkaTransport(settings)
    working = threading.Thread(
        target=Service(transport, inspector, Health(), BatchSettings()).run, args=(stop,), daemon=True
    )
    with caplog.at_level(logging.CRITICAL):
        working.start()
        deadline = time.monotonic() + 60
        found: dict[int, str | None] = {}
        while len(found) < len(frames):
            assert working.is_alive(), "the worker stopped"
            assert time.monotonic() < deadline, f"only {len(found)} of {len(frames)} frames have a result"
            for data in librdkafka.values(kafka_bootstrap, topics.verdicts):
                found[data["frame"]["offset"]] = None
            for data in librdkafka.values(kafka_bootstrap, topics.dead_letters):
                found[data["frame"]["offset"]] = data["reason"]
    stop.set()
    working.join(30)
    transport.close()
    names = [name for one in FRAMES for name in (one, f"good frame after {one}")]
    assert {names[offset]: reason for offset, reason in found.items()} == {
        name: one.reason for name, one in zip(names, frames, strict=True)
    }
    records = [librdkafka.consume(kafka_bootstrap, topic) for topic in (topics.verdicts, topics.dead_letters)]
    assert sum(map(len, records)) == len(frames)


def test_a_record_larger_than_the_worker_expects_comes_through(
    kafka_bootstrap: str, create_topics: Callable[[int], Topics], inspector: Inspector
) -> None:
    """What the topic takes, the worker takes: with a limit of its own it would ask for the record again and again."""
    topics = create_topics(1)
    librdkafka.configure(kafka_bootstrap, topics.frames, max_message_bytes=2**26)
    librdkafka.produce(kafka_bootstrap, topics.frames, [bytes(40 * 2**20), bytes(40)])
    settings = KafkaSettings(
        bootstrap_servers=kafka_bootstrap, topics=topics, group=topics.frames, max_frame_bytes=1000
    )
    with closing(KafkaTransport(settings)) as transport:
        outcomes: list[Outcome] = []
        deadline = time.monotonic() + 30
        while len(outcomes) < 2:
            assert time.monotonic() < deadline, "the record does not come"
            if frames := transport.poll(32, 0.5):
                outcomes += inspector.inspect(frames)
                transport.deliver(outcomes[-len(frames) :])
    assert [reason(outcome) for outcome in outcomes] == ["undecodable", "undecodable"]


def test_the_frames_topic_takes_no_compression_bomb(kafka_bootstrap: str) -> None:
    names = {name: f"bomb-{name.replace('_', '-')}" for name in Topics.model_fields}
    settings = KafkaSettings(bootstrap_servers=kafka_bootstrap, topics=Topics(**names))
    create_line(settings, 1)
    refused: list[KafkaError | None] = []
    to_broker = librdkafka.producer(kafka_bootstrap, **{"compression.type": "gzip"})
    for frame_bytes in (bytes(60 * 2**20), GOOD):  # the first is some 60 KiB on the way, and would be 60 MiB here
        to_broker.produce(settings.topics.frames, frame_bytes, on_delivery=lambda error, _: refused.append(error))
        assert to_broker.flush(30) == 0
    assert refused[0] is not None
    assert refused[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert refused[1] is None
