"""The streaming part of the demo: test pictures become frames, and a worker process inspects them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from quarterturn.worker.contract.errors import QuarterturnError
from quarterturn.worker.contract.settings import PREFIX
from quarterturn.worker.pictures.sets import GOOD, TestPicture
from quarterturn.worker.settings.worker import FolderSettings, KafkaSettings
from quarterturn.worker.transport.kafka.producer import FramePublisher
from quarterturn.worker.transport.kafka.results import ResultReader
from quarterturn.worker.transport.kafka.topics import create_topics

WRONG_PRODUCT = "wrong_product"

_WRONG_EACH = 20  # parts of every other product under a camera
_LOOK_S = 0.05

Result = dict[str, Any]
"""The data of a verdict or a dead letter."""


def lay_out(pictures: Sequence[TestPicture], folder: Path, seed: int) -> dict[str, TestPicture]:
    """Copy the pictures to `folder/cam-<product>/` in the order in which the parts come by; one camera a product.

    Some good parts of every other product are laid under each camera by mistake. Returns the truth by part id, which
    is the picture's path below `folder`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    products = sorted({picture.product for picture in pictures})
    truth: dict[str, TestPicture] = {}
    for product in products:
        parts = [picture for picture in pictures if picture.product == product]
        for other in products:
            if other != product:
                foreign = [picture for picture in pictures if picture.product == other and picture.defect == GOOD]
                parts += [TestPicture(picture.path, product, WRONG_PRODUCT) for picture in foreign[:_WRONG_EACH]]
        random.Random(seed).shuffle(parts)  # noqa: S311 - nothing to guess here
        camera = folder / camera_of(product)
        camera.mkdir(parents=True)
        for number, part in enumerate(parts):
            frame = camera / f"{number:05}{part.path.suffix}"
            shutil.copyfile(part.path, frame)
            truth[frame.relative_to(folder).as_posix()] = part
    return truth


def camera_of(product: str) -> str:
    """The name of the camera that looks at `product`."""
    return f"cam-{product}"


def through_folder(settings: FolderSettings, config: Path) -> Iterator[Result]:
    """The results of a worker that reads the frames from their folder, as they are written."""
    settings.out.unlink(missing_ok=True)
    with working(config, config.with_suffix(".log")) as is_alive:
        lines = _follow(settings.out, is_alive)
        events = (json.loads(line) for line in lines)
        yield from (event["data"] for event in events if event["kind"] != "alert")


def through_kafka(settings: KafkaSettings, config: Path, frames: Path, count: int) -> Iterator[Result]:
    """Publish the frames, and give the results of a worker between Kafka topics as they are committed."""
    cameras = sorted(camera for camera in frames.iterdir() if camera.is_dir())
    create_topics(settings, partitions=len(cameras))
    with closing(ResultReader(settings)) as reader, working(config, config.with_suffix(".log")) as is_alive:
        _publish(settings, frames, cameras)
        seen = 0
        while seen < count:
            results = reader.poll(timeout_s=0.5)
            if not results and not is_alive():
                break
            seen += len(results)
            yield from results


def _publish(settings: KafkaSettings, frames: Path, cameras: Iterable[Path]) -> None:
    with closing(FramePublisher(settings)) as out:
        for camera in cameras:
            for picture in sorted(camera.iterdir()):
                headers = {"camera": camera.name, "part_id": picture.relative_to(frames).as_posix()}
                out.publish(camera.name.encode(), headers, picture.read_bytes())
        out.flush()


@contextmanager
def working(config: Path, log: Path) -> Iterator[Callable[[], bool]]:
    """`quarterturn run` in a process of its own, told to stop at the end; gives a function that says if it lives."""
    command = [sys.executable, "-m", "quarterturn", "run", "--config", str(config)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}  # the demo's own
    with log.open("wb") as output:
        process = subprocess.Popen(command, stderr=output, env=environment)
    try:
        yield lambda: process.poll() is None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = process.wait()
    finally:
        process.kill()
        process.wait()
    if code:
        last = log.read_text(errors="replace").strip().rpartition("\n")[2]
        raise QuarterturnError(f"the worker stopped with exit code {code}: {last} (all of it: {log})")


def _follow(path: Path, is_alive: Callable[[], bool]) -> Iterator[str]:
    """The complete lines of a file that is being written, until its writer ends."""
    while not path.exists() and is_alive():
        time.sleep(_LOOK_S)
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        rest = ""
        while True:
            writing = is_alive()
            text = file.read()
            *lines, rest = (rest + text).split("\n")
            yield from lines
            if not text and not writing:
                return
            if not text:
                time.sleep(_LOOK_S)
