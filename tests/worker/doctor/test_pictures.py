"""What the doctor says of the pictures of a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quarterturn.worker.doctor.check import Check
from quarterturn.worker.doctor.pictures import first_pictures
from quarterturn.worker.settings.worker import WorkerSettings
from tests.parts import good_part, png, png_of_depth

PART = good_part(np.random.default_rng(0))


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    """Of a line with two cameras, of which one has 12 bits."""
    for camera in ("deep", "plain"):
        (tmp_path / "pictures" / camera).mkdir(parents=True)
        for number in range(3):
            data = png_of_depth(PART, 12) if camera == "deep" else png(PART)
            (tmp_path / "pictures" / camera / f"{number}.png").write_bytes(data)
    return WorkerSettings.model_validate(
        {
            "line": "line-1",
            "engine": {"path": "engine"},
            "bank": {"file": {"path": "banks"}},
            "transport": {"folder": {"path": str(tmp_path / "pictures"), "out": "out.jsonl"}},
            "cameras": {"deep": {"bit_depth": 12}},
        }
    )


def test_pictures_as_they_are_meant(settings: WorkerSettings) -> None:
    assert list(first_pictures(settings)) == [Check("pictures", "ok", "the first of deep, plain is read")]


def test_a_depth_that_is_not_set_or_not_there(settings: WorkerSettings, tmp_path: Path) -> None:
    (check,) = first_pictures(settings.model_copy(update={"cameras": {}}))
    assert check.status == "warning"
    assert check.found.startswith(f"{tmp_path}/pictures/deep/0.png: no sample of 16 bits is above ")
    assert check.fix.endswith("set bit_depth: 12 or more (cameras.deep.bit_depth)")
    (check,) = first_pictures(settings.model_copy(update={"cameras": {"plain": settings.cameras["deep"]}}))
    assert "deep/0.png" in check.found  # the first camera, too
    (tmp_path / "pictures" / "deep" / "0.png").write_bytes(png(PART))
    (check,) = first_pictures(settings)
    assert check.found.endswith("samples have 8 bits, bit_depth says 12")


def test_a_picture_that_cannot_be_read(settings: WorkerSettings, tmp_path: Path) -> None:
    (tmp_path / "pictures" / "plain" / "0.png").write_bytes(png(PART)[:-20])
    (check,) = first_pictures(settings)
    assert check.status == "failure"
    assert "plain/0.png: the picture ends early" in check.found


def test_nothing_is_said_of_what_comes_from_kafka(settings: WorkerSettings) -> None:
    kafka = WorkerSettings.model_validate(
        {**settings.model_dump(exclude={"transport"}), "transport": {"kafka": {"bootstrap_servers": "kafka:9092"}}}
    )
    assert list(first_pictures(kafka)) == []
