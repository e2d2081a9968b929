"""Pictures of results: the very frames, fetched from Kafka by position, as JPEG; heat maps as a glaze to lay over."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np

from quarterturn.worker.console.faults import BusyError
from quarterturn.worker.console.rows import Row, place_of
from quarterturn.worker.contract.arrays import Picture
from quarterturn.worker.contract.errors import DataError, UnavailableError
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.inspection import heatmap
from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.pictures.decode import decode_picture
from quarterturn.worker.pictures.read import crop
from quarterturn.worker.settings.worker import CameraSettings, KafkaSettings
from quarterturn.worker.transport.kafka.archive import FrameArchive

SMALL, LARGE = 320, 1600
"""Pixels on the longer side of what is offered."""

_TIMEOUT_S = 3.0
_MAX_WAITING = 100  # pictures asked for and not yet made
_CACHE_BYTES = 64 * 2**20
_QUALITY = 85
_GLAZE_SIDE = 512

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Extent:
    """Width and height of a frame as it came, in pixels, and the part of it that is looked at and shown."""

    width: int
    height: int
    seen: Region


class Pictures:
    """Makes pictures in a thread of its own, one after the other, and keeps the last ones."""

    def __init__(self, settings: KafkaSettings, cameras: Mapping[str, CameraSettings]) -> None:
        self._settings, self._cameras = settings, cameras
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="console-pictures")
        self._archive: FrameArchive | None = None
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._size = 0
        self._waiting = 0
        self._lock = threading.Lock()

    def ask(self, row: Row, side: int) -> Future[bytes]:
        """The JPEG of a result's frame, `side` pixels at most on its longer side.

        The future raises DataError where the frame is gone, FrameError where it is no picture, and UnavailableError
        where the broker does not answer.

        Raises:
            BusyError: too many are being waited for.
        """
        return self._ask(lambda: self._make(row, side))

    def extent(self, row: Row) -> Future[Extent]:
        """How large a result's frame is; raises as `ask` does."""
        return self._ask(lambda: self._extent(row))

    def close(self) -> None:
        """Release the thread and the connection; may be called twice."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._drop_archive()

    def _ask(self, make: Callable[[], _T]) -> Future[_T]:
        with self._lock:
            if self._waiting >= _MAX_WAITING:
                raise BusyError("pictures")
            self._waiting += 1
        made = self._thread.submit(make)
        made.add_done_callback(lambda _: self._done())
        return made

    def _done(self) -> None:
        with self._lock:
            self._waiting -= 1

    def _make(self, row: Row, side: int) -> bytes:
        key = (row["id"], side)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        jpeg = _jpeg(crop(*self._opened(row)), side)
        self._keep(key, jpeg)
        return jpeg

    def _fetch(self, row: Row) -> Frame:
        position = place_of(row)
        try:
            if self._archive is None:
                self._archive = FrameArchive(self._settings)
            found = self._archive.fetch([position], _TIMEOUT_S)[position]
        except UnavailableError:
            self._drop_archive()
            raise
        if isinstance(found, DataError):
            raise found
        return found

    def _opened(self, row: Row) -> tuple[Picture, Region]:
        """The frame, and the part of it that the worker looks at: it is what the heat map covers."""
        frame = self._fetch(row)
        info = frame.info()
        camera = self._cameras.get(info.camera, CameraSettings())
        whole = decode_picture(frame.data, info.raw, camera.bit_depth)
        height, width = whole.shape[:2]
        return whole, camera.region or Region(x=0, y=0, width=width, height=height)

    def _extent(self, row: Row) -> Extent:
        whole, seen = self._opened(row)
        return Extent(whole.shape[1], whole.shape[0], seen)

    def _keep(self, key: tuple[str, int], jpeg: bytes) -> None:
        self._kept[key] = jpeg
        self._size += len(jpeg)
        while self._size > _CACHE_BYTES:
            self._size -= len(self._kept.popitem(last=False)[1])

    def _drop_archive(self) -> None:
        if self._archive is not None:
            self._archive.close()
            self._archive = None


def glaze_png(heat_map: str) -> bytes:
    """A transparent PNG to be stretched over the picture, from a heat map as it was published.

    Raises:
        DataError: it is no heat map.
    """
    heat = heatmap.decode(heat_map)
    factor = max(1, _GLAZE_SIDE // max(heat.shape))
    drawn = heatmap.glaze(heat, heat.shape[0] * factor, heat.shape[1] * factor)
    return cv2.imencode(".png", cv2.cvtColor(drawn, cv2.COLOR_RGBA2BGRA))[1].tobytes()


def _jpeg(picture: Picture, side: int) -> bytes:
    height, width = picture.shape[:2]
    scale = min(1.0, side / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
