"""What a bank learns of its pictures beside what they show: limits of the picture guard, size, depth and colour."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from quarterturn.worker.contract.bank import ScoringSettings, read_bank
from quarterturn.worker.contract.guard import measure, unusable
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.contract.traits import PictureTraits
from quarterturn.worker.fitting.fit import fit_bank
from quarterturn.worker.fitting.split import Split, split_pictures
from tests.parts import SIDE, NumpyEngine, NumpyPlacesEngine, good_part, png
from tests.worker.dataset import write_product

FRAME = ScoringSettings(detectors=("frame",))


@pytest.fixture
def split(tmp_path: Path) -> Split:
    for product in ("bracket", "ring"):
        write_product(tmp_path / product, product)
    return split_pictures(tmp_path, None, 0.4)


def brightness(path: Path) -> float:
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert grey is not None
    return float(grey.mean())


def paint(path: Path, levels: int) -> None:
    """Make the picture so many grey levels darker."""
    picture = cv2.imread(str(path)).astype(int)
    cv2.imwrite(str(path), np.clip(picture - levels, 0, 255).astype(np.uint8))


def test_limits_are_learned_from_all_pictures_but_those_that_calibrate(split: Split) -> None:
    for part, levels in ((split.normal, 30), (split.weighing, 60), (split.calibration, 90)):
        paint(part["ring"][0], levels)
    bank = fit_bank(NumpyEngine(), split, FRAME, 0.06)
    for c, product in enumerate(bank.products):
        seen = [brightness(path) for path in (*split.normal[product], *split.weighing[product])]
        margin = max((0.25 + 10 / len(seen)) * (max(seen) - min(seen)), 32)
        assert bank.guard[c, 0] == pytest.approx([min(seen) - margin, max(seen) + margin], abs=1)


def test_a_bank_says_what_its_pictures_were_and_how_they_were_read(split: Split) -> None:
    region = Region(x=2, y=1, width=20, height=25)
    bank = fit_bank(NumpyEngine(), split, FRAME, 0.06, region=region, bit_depth=12)
    alike = PictureTraits(widths=(20, 20), heights=(25, 25), bits=(8,), grey=False, colour=True, jpeg=None, other=True)
    assert bank.manifest.pictures == alike
    assert (bank.manifest.region, bank.manifest.bit_depth, bank.manifest.overkill) == (region, 12, 0.06)
    deep, grey = split.normal["ring"][:2]
    cv2.imwrite(str(deep), np.full((40, 50, 3), (1000, 2000, 60_000), np.uint16))
    cv2.imwrite(str(grey), np.full((SIDE, 60), 99, np.uint8))
    several = fit_bank(NumpyEngine(), split, FRAME, 0.06).manifest.pictures
    assert several == PictureTraits(
        widths=(SIDE, 60), heights=(SIDE, 40), bits=(8, 16), grey=True, colour=True, jpeg=None, other=True
    )


def test_calibration_pictures_that_the_guard_would_stop_are_named(
    split: Split, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        fit_bank(NumpyEngine(), split, FRAME, 0.06)
        assert caplog.messages == []
        paths = split.calibration["ring"][:7]
        for path in paths:
            paint(path, 100)
        fit_bank(NumpyEngine(), split, FRAME, 0.06)
    *named, counted = caplog.messages
    assert [message.partition(": ")[0] for message in named] == [str(path) for path in paths[:5]]
    assert all("unusable beside those that the bank learned from (too dark: brightness " in one for one in named)
    assert counted.startswith("7 of 18 calibration pictures are unusable so")


@pytest.mark.parametrize("picture", [good_part(np.random.default_rng(0)), np.full((SIDE, SIDE, 3), 7, np.uint8)])
@pytest.mark.parametrize("learned", [1, 30])
def test_pictures_that_are_all_identical_make_a_sound_bank(
    learned: int, picture: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    paths = [tmp_path / f"{n}.png" for n in range(learned + 40)]
    for path in paths:
        path.write_bytes(png(picture))
    split = Split({"a": paths[:learned]}, {"a": paths[learned : learned + 10]}, {"a": paths[learned + 10 :]})
    bank = fit_bank(NumpyPlacesEngine(), split, ScoringSettings(), 0.06)
    guard = read_bank(bank.blob, "bank").guard[0]  # refuses what is no number
    assert unusable(measure(picture[None]), guard) is None
    assert guard[0, 1] - guard[0, 0] == pytest.approx(64)
