"""`quarterturn camera`: publishes a folder of pictures or a video as frames, at a given rate."""

from __future__ import annotations

import argparse
import itertools
import mimetypes
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from quarterturn.worker.commands.options import add_config, read_config
from quarterturn.worker.contract.errors import ConfigError, DataError
from quarterturn.worker.contract.times import now
from quarterturn.worker.pictures.folder_names import MASKS, NOT_TRAINED, masks_among, word_of
from quarterturn.worker.pictures.sets import list_pictures
from quarterturn.worker.settings.worker import WorkerSettings

_JPEG_QUALITY = 95
_DAMAGED = "damaged or missing frames"
_GIVEN_UP = 1000  # frames of a video that cannot be decoded, one after the other: its header lies


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture to publish: its file's bytes, their content type, and its name as a part."""

    part_id: str
    content_type: str
    data: bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `quarterturn camera`."""
    add_config(parser, "configs/worker.yaml")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a folder of pictures, or a video file")
    parser.add_argument("--camera", metavar="NAME", help="default: the source's name")
    parser.add_argument("--product", metavar="NAME", help="what the frames show; default: the worker's settings say")
    parser.add_argument("--rate", type=float, default=10.0, metavar="F", help="frames/s; 0: as fast as possible (10)")
    parser.add_argument("--count", type=int, metavar="N", help="stop after N frames; default: at the source's end")
    parser.add_argument("--all", action="store_true", help="also masks, and what lies in folders called test")
    parser.add_argument("--loop", action="store_true", help="begin again at the source's end")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Publish the source to the frames topic of the settings' Kafka."""
    from quarterturn.worker.transport.kafka.producer import (
        FramePublisher,  # takes a while, and only this command needs it
    )

    kafka = read_config(arguments, WorkerSettings).require_kafka("a camera publishes to Kafka")
    for option in ("rate", "count"):
        if (getattr(arguments, option) or 0) < 0:
            raise ConfigError(f"--{option} {getattr(arguments, option):g}: must be 0 or more")
    source: Path = arguments.source
    camera = arguments.camera or source.resolve().stem
    left_out: Counter[str] = Counter()
    published = 0
    columns = (TextColumn(f"{camera}:"), MofNCompleteColumn(), TextColumn("frames"), TimeElapsedColumn())
    console = Console(stderr=True, markup=False, highlight=False)
    try:
        with closing(FramePublisher(kafka)) as publisher, Progress(*columns, console=console) as progress:
            task = progress.add_task("publishing", total=arguments.count)
            for shot in _paced(_all_shots(arguments, left_out), arguments.rate):
                publisher.publish(camera.encode(), _headers(shot, camera, arguments.product), shot.data)
                published += 1
                progress.advance(task)
            publisher.flush()
    finally:  # with --loop, Ctrl-C is the end
        if published:
            hint = "" if source.is_file() else "; --all publishes them, too"
            console.print(_said(camera, published, left_out, hint), soft_wrap=True)


def _all_shots(arguments: argparse.Namespace, left_out: Counter[str]) -> Iterator[Shot]:
    rounds = itertools.count() if arguments.loop else range(1)
    shots = (shot for _ in rounds for shot in _shots(arguments.source, arguments.all, left_out))
    return itertools.islice(shots, arguments.count)


def _said(camera: str, published: int, left_out: Counter[str], hint: str) -> str:
    """What was published and what was left out, in one line."""
    reasons = ", ".join(f"{count} {what}" for what, count in sorted(left_out.items()) if count)
    return f"{camera}: {published} frames published" + (f"; left out: {reasons}{hint}" if reasons else "")


def _headers(shot: Shot, camera: str, product: str | None) -> dict[str, str]:
    headers = {
        "camera": camera,
        "part_id": shot.part_id,
        "captured_at": now(),
        "content-type": shot.content_type,
        "simulated": "true",
    }
    return headers | ({"product": product} if product else {})


def _shots(source: Path, everything: bool, left_out: Counter[str]) -> Iterator[Shot]:
    """One round; what is left out is written down by its reason."""
    left_out.clear()
    if source.is_file():
        yield from _video(source, left_out)
        return
    for path in _of_the_line(source, everything, left_out):
        content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); correct its permissions") from error
        yield Shot(path.relative_to(source).as_posix(), content_type, data)


def _of_the_line(source: Path, everything: bool, left_out: Counter[str]) -> list[Path]:
    """The pictures that a camera would take: no masks, and none of a folder that is called test or the like."""
    pictures = list_pictures(source)
    if everything:
        return pictures
    masks, found = masks_among(pictures), []
    for path in pictures:
        folders = [one for one in path.parents if one != source and one.is_relative_to(source)]
        named = next((one for one in reversed(folders) if word_of(one) in MASKS | NOT_TRAINED), None)
        if named is not None:
            left_out[f"in {named.relative_to(source)}/"] += 1
        elif path in masks:
            left_out["masks beside their pictures"] += 1
        else:
            found.append(path)
    if not found:
        raise DataError(f"{source}: holds masks and test pictures alone; to publish these, add --all")
    return found


def _video(source: Path, left_out: Counter[str]) -> Iterator[Shot]:
    """The frames that can be decoded; a damaged one does not end a video that says it goes on."""
    video = cv2.VideoCapture(str(source))
    try:
        frames = video.get(cv2.CAP_PROP_FRAME_COUNT)  # as its header says, 0 or less where it does not
        last = -1
        for number in itertools.count():
            found, picture = video.read()
            if not found:
                if number < frames and number - last <= _GIVEN_UP:
                    continue
                break
            left_out[_DAMAGED] += number - last - 1
            last = number
            jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
            yield Shot(f"{source.stem}-{number:06}", "image/jpeg", jpeg.tobytes())
        left_out[_DAMAGED] += max(0, number - last - 1)
        if last < 0:
            raise DataError(f"{source}: is no video that OpenCV can read; convert it to H.264 in MP4")
    finally:
        video.release()


def _paced(shots: Iterator[Shot], rate: float) -> Iterator[Shot]:
    """`rate` shots a second, counted from the first so that delays do not add up; 0: without a pause."""
    start_s = time.monotonic()
    for number, shot in enumerate(shots):
        if rate:
            time.sleep(max(0.0, start_s + number / rate - time.monotonic()))
        yield shot
