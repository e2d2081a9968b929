from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quarterturn.worker.contract.picture import BitDepth, Region
from quarterturn.worker.inspection.agreement import disagreements
from quarterturn.worker.settings.worker import CameraSettings
from tests.parts import NumpyEngine, bank_of

HERE, THERE = Region(x=10, y=20, width=30, height=40), Region(x=0, y=0, width=30, height=40)
BANK = bank_of(NumpyEngine(), count=60)


def told(cameras: dict[str, Region | None], **fitted: Any) -> list[str]:
    bank = replace(BANK, manifest=BANK.manifest.model_copy(update=fitted))
    return disagreements(bank, 0.02, {name: CameraSettings(region=region) for name, region in cameras.items()})


@pytest.mark.parametrize("region", [None, HERE])
def test_who_agrees_is_not_spoken_of(region: Region | None) -> None:
    assert told({"top-01": region, "side-02": region}, region=region, overkill=0.02) == []


def test_another_overkill() -> None:
    (sentence,) = told({}, overkill=0.01)
    assert sentence.startswith("overkill is 0.02, but the bank was fitted for 0.01: the thresholds are those of 0.02;")


def test_another_region_is_told_of_each_camera() -> None:
    """Allowed: each camera may see the part at another place."""
    assert [sentence.partition(":")[0] for sentence in told({"a": HERE, "b": THERE, "c": None}, region=HERE)] == [
        f"cameras.{camera}.region is {region}, but the bank was fitted with 30x40 pixels at (10, 20)"
        for camera, region in (("b", "30x40 pixels at (0, 0)"), ("c", "the whole picture"))
    ]
    (sentence,) = told({"a": HERE})
    assert "but the bank was fitted with the whole picture" in sentence


def test_a_region_that_no_camera_has() -> None:
    (sentence,) = told({}, region=HERE)
    assert sentence.startswith(
        "no camera is listed; cameras.NAME.region is the whole picture, but the bank was fitted "
    )


@pytest.mark.parametrize(("here", "there"), [(None, 12), (12, None), (10, 12)])
def test_another_depth(here: BitDepth | None, there: BitDepth | None) -> None:
    bank = replace(BANK, manifest=BANK.manifest.model_copy(update={"bit_depth": there}))
    (sentence,) = disagreements(bank, 0.02, {"a": CameraSettings(bit_depth=here)})
    assert sentence.startswith(
        f"cameras.a.bit_depth is {here or 'null'}, but the bank was fitted with {there or 'null'}:"
    )
    assert disagreements(bank, 0.02, {"a": CameraSettings(bit_depth=there)}) == []
