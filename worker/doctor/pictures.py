"""The pictures that frames will be made of, where they lie in a folder: whether they are read as they are meant."""

from __future__ import annotations

from collections.abc import Iterator

from quarterturn.worker.contract.errors import QuarterturnError
from quarterturn.worker.doctor.check import Check, failure
from quarterturn.worker.pictures.read import depth_doubt
from quarterturn.worker.pictures.sets import list_pictures
from quarterturn.worker.settings.worker import CameraSettings, WorkerSettings
from quarterturn.worker.transport.folder import camera_of


def first_pictures(settings: WorkerSettings) -> Iterator[Check]:
    """Whether the first picture of each camera is read, and has the depth that is set; nothing where Kafka has them."""
    folder = settings.transport.folder
    if folder is None:
        return
    try:
        firsts = {camera_of(path, folder): path for path in reversed(list_pictures(folder.path))}
        for camera, path in sorted(firsts.items()):
            if doubt := depth_doubt(path, settings.cameras.get(camera, CameraSettings()).bit_depth):
                found, _, fix = doubt.rpartition("; ")
                yield Check("pictures", "warning", found, f"{fix} (cameras.{camera}.bit_depth)")
                return
    except QuarterturnError as error:
        yield failure("pictures", error)
        return
    yield Check("pictures", "ok", f"the first of {', '.join(sorted(firsts))} is read")
