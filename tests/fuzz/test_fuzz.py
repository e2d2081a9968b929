"""The fuzz targets on a few thousand mutated seeds, the same in every run; `make fuzz` looks further."""

from __future__ import annotations

import random

import cv2
import pytest

from quarterturn.worker.contract.bank import read_bank
from quarterturn.worker.pictures.decode import decode, decode_picture
from tests.fuzz import pictures
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import TARGETS, Target

RUNS = 2000
PICTURES = 10_000


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_a_target_refuses_only_as_it_should(target: Target) -> None:
    rng = random.Random(20260101)
    for seed in target.seeds:
        target.run(seed)
    for run in range(RUNS):
        data = mutated(rng.choice(target.seeds), rng.choice(target.seeds), rng)
        try:
            target.run(data)
        except Exception as error:
            raise AssertionError(f"run {run}: {type(error).__name__}: {error}, for {data[:500]!r}") from error


def test_damaged_pictures_are_pictures_or_refused() -> None:
    """A hundredth of what `python -m tests.fuzz.pictures` goes through; all kinds of refusal are among them."""
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        with pictures.spoken() as lines:
            found = pictures.run(PICTURES, seed=1)
    finally:
        cv2.utils.logging.setLogLevel(before)
    assert not lines
    assert {*found} == {*pictures.REASONS, "picture"}
    assert found["picture"] > PICTURES // 5


def test_what_pictures_are_damaged_of_is_accepted() -> None:
    for seeds in pictures.SEEDS.values():
        for seed in seeds:
            assert decode(seed).picture.shape[2] == 3


def test_seeds_are_accepted() -> None:
    """Else nothing behind the door would be tested."""
    for data in TARGETS["picture"].seeds:
        assert decode_picture(data).shape == (7, 9, 3)
    assert read_bank(TARGETS["bank"].seeds[0], "bank").products == ("ring",)
