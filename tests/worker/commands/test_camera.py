"""`quarterturn camera` into a real Kafka, read back by another client."""

from __future__ import annotations

import argparse
import itertools
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from confluent_kafka import Message

from quarterturn.worker.commands import camera
from quarterturn.worker.contract.errors import ConfigError, DataError, UnavailableError
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.pictures.decode import decode_picture
from quarterturn.worker.settings.worker import Topics
from quarterturn.worker.transport.kafka import connection
from tests.worker.transport import librdkafka

CreateTopics = Callable[[int], Topics]
Publish = Callable[..., list[tuple[Frame, Message]]]
CaptureFd = pytest.CaptureFixture[str]

CONFIG = """
line: line-3
engine: {path: engine}
bank: {file: {path: banks}}
transport:
  kafka: {bootstrap_servers: "KAFKA", topics: {frames: TOPIC}}
"""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three small pictures; their grey level is their number."""
    for number, name in enumerate(("good/1.png", "good/2.jpg", "scratch/1.png")):
        path = tmp_path / "ring" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((8, 8, 3), number, np.uint8))
    return tmp_path / "ring"


@pytest.fixture
def publish(kafka_bootstrap: str, create_topics: CreateTopics, tmp_path: Path) -> Publish:
    """Run the command on a new topic; gives what is in the topic then, as the worker's frames and as records."""
    topic = create_topics(1).frames
    config = tmp_path / "worker.yaml"
    config.write_text(CONFIG.replace("KAFKA", kafka_bootstrap).replace("TOPIC", topic), encoding="utf-8")

    def run(*arguments: str) -> list[tuple[Frame, Message]]:
        run_camera("--config", str(config), *arguments)
        records = librdkafka.consume(kafka_bootstrap, topic)
        return [
            (Frame(Position(topic, 0, record.offset()), record.key(), dict(record.headers()), record.value()), record)
            for record in records
        ]

    return run


def run_camera(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    camera.add_arguments(parser)
    parsed = parser.parse_args(arguments)
    parsed.run(parsed)


def test_publishes_a_folder_as_the_worker_reads_it(publish: Publish, pictures: Path) -> None:
    published = publish(str(pictures), "--rate", "0", "--camera", "top-01", "--product", "ring")

    infos = [frame.info() for frame, _ in published]
    assert [info.part_id for info in infos] == ["good/1.png", "good/2.jpg", "scratch/1.png"]
    assert {(info.camera, info.product, info.simulated, info.raw) for info in infos} == {("top-01", "ring", True, None)}
    assert all(info.captured_at and datetime.fromisoformat(info.captured_at.replace("Z", "+00:00")) for info in infos)
    assert [int(decode_picture(frame.data).mean()) for frame, _ in published] == [0, 1, 2]
    assert [record.key() for _, record in published] == [b"top-01"] * 3
    assert [frame.headers["content-type"] for frame, _ in published] == [b"image/png", b"image/jpeg", b"image/png"]


def test_begins_again_until_the_count(publish: Publish, pictures: Path) -> None:
    published = publish(str(pictures), "--rate", "0", "--loop", "--count", "5")

    assert [frame.info().part_id for frame, _ in published][2:] == ["scratch/1.png", "good/1.png", "good/2.jpg"]
    assert {frame.info().camera for frame, _ in published} == {"ring"}
    assert {frame.info().product for frame, _ in published} == {None}


def test_publishes_a_video(publish: Publish, tmp_path: Path) -> None:
    path = tmp_path / "belt.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for level in (20, 120, 220):
        video.write(np.full((48, 64, 3), level, np.uint8))
    video.release()
    published = publish(str(path), "--rate", "0")

    assert [frame.info().part_id for frame, _ in published] == ["belt-000000", "belt-000001", "belt-000002"]
    assert {frame.info().camera for frame, _ in published} == {"belt"}
    levels = [decode_picture(frame.data).mean() for frame, _ in published]
    assert np.allclose(levels, [20, 120, 220], atol=5)


def write_video(path: Path, codec: str, count: int = 30) -> None:
    """Frames whose grey level is eight times their number, with some noise that takes bytes."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25, (64, 48))
    rng = np.random.default_rng(0)
    for number in range(count):
        picture = np.full((48, 64, 3), 8 * number, np.uint8)
        picture[10:20, 10:30] = rng.integers(0, 255, (10, 20, 3))
        video.write(picture)
    video.release()


def test_a_damaged_frame_does_not_end_a_video(publish: Publish, tmp_path: Path, capfd: CaptureFd) -> None:
    path = tmp_path / "belt.mp4"
    write_video(path, "mp4v")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = np.random.default_rng(3).bytes(300)
    path.write_bytes(data)
    published = publish(str(path), "--rate", "0")

    numbers = [int((frame.info().part_id or "").rpartition("-")[2]) for frame, _ in published]
    assert numbers[-1] == 29
    levels = [float(np.median(decode_picture(frame.data))) for frame, _ in published]
    assert np.allclose(levels[-8:], [8 * number for number in numbers[-8:]], atol=8)
    lost = 30 - len(numbers)
    assert lost > 0
    assert (
        f"belt: {len(numbers)} frames published; left out: {lost} damaged or missing frames\n" in capfd.readouterr().err
    )


def test_a_video_that_was_cut_off_says_so(publish: Publish, tmp_path: Path, capfd: CaptureFd) -> None:
    path = tmp_path / "belt.avi"
    write_video(path, "MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    published = publish(str(path), "--rate", "0")
    assert 10 < len(published) < 25
    said = f"belt: {len(published)} frames published; left out: {30 - len(published)} damaged or missing frames\n"
    assert said in capfd.readouterr().err


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A set with masks and test pictures of all kinds."""
    for name in (
        *("train/good/1.png", "train/good/2.png", "train/good/2_mask.png", "train/good/.3.png", "extra/1.png"),
        *("test/good/1.png", "test/scratch/1.png", "ground_truth/scratch/1.png", "Masks/1.png", "val/1.png"),
    ):
        path = tmp_path / "ring" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    return tmp_path / "ring"


def test_masks_and_test_pictures_are_left_out_and_named(publish: Publish, labelled: Path, capfd: CaptureFd) -> None:
    published = publish(str(labelled), "--rate", "0", "--loop", "--count", "6")
    parts = [frame.info().part_id for frame, _ in published]
    assert parts == ["extra/1.png", "train/good/1.png", "train/good/2.png"] * 2
    assert capfd.readouterr().err.splitlines()[-1] == (
        "ring: 6 frames published; left out: 1 in Masks/, 1 in ground_truth/, 2 in test/, 1 in val/, "
        "1 masks beside their pictures; --all publishes them, too"
    )


@pytest.mark.parametrize(
    ("folder", "option", "count"),
    [(".", ["--all"], 9), ("test", [], 2), ("ground_truth", [], 1), ("train", [], 2), ("train", ["--all"], 3)],
)
def test_what_is_asked_for_is_published(
    publish: Publish, labelled: Path, capfd: CaptureFd, folder: str, option: list[str], count: int
) -> None:
    assert len(publish(str(labelled / folder), "--rate", "0", *option)) == count
    said = capfd.readouterr().err.splitlines()[-1]
    assert f": {count} frames published" in said
    assert ("left out" in said) == (folder == "train" and not option)


def test_nothing_but_test_pictures_says_how_to_publish_them(publish: Publish, labelled: Path) -> None:
    for folder in ("train", "extra"):
        shutil.rmtree(labelled / folder)
    with pytest.raises(DataError, match="holds masks and test pictures alone; to publish these, add --all"):
        publish(str(labelled))


class Clock:
    """Time that passes only where it is spent."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.mark.parametrize(("cost_s", "rate", "interval_s"), [(0.03, 10, 0.1), (0.25, 10, 0.25), (0.03, 0, 0.03)])
def test_the_rate_does_not_drift(
    monkeypatch: pytest.MonkeyPatch, cost_s: float, rate: float, interval_s: float
) -> None:
    clock = Clock()
    monkeypatch.setattr(camera, "time", clock)
    shots = (camera.Shot(str(number), "", b"") for number in itertools.count())
    times = []
    for _ in itertools.islice(camera._paced(shots, rate), 50):
        times.append(clock.now_s)
        clock.now_s += cost_s  # publishing

    assert np.allclose(np.diff(times), interval_s)


def test_faults_are_one_sentence(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_S", 0.5)
    config = tmp_path / "worker.yaml"
    config.write_text(CONFIG.replace("KAFKA", "127.0.0.1:1").replace("TOPIC", "frames"), encoding="utf-8")
    source = ("--config", str(config), str(pictures))
    with pytest.raises(ConfigError, match="--rate -1: must be 0 or more"):
        run_camera(*source, "--rate", "-1")
    with pytest.raises(ConfigError, match="--count -3: must be 0 or more"):
        run_camera(*source, "--count", "-3")
    with pytest.raises(UnavailableError, match=r"Kafka at 127\.0\.0\.1:1 cannot be used"):
        run_camera(*source)


def test_a_source_that_is_none_is_named(publish: Publish, tmp_path: Path) -> None:
    (tmp_path / "no.avi").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"no\.avi: is no video that OpenCV can read"):
        publish(str(tmp_path / "no.avi"))
    with pytest.raises(DataError, match="there is no such folder"):
        publish(str(tmp_path / "nowhere"))
