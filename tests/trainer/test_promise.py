"""What is said of promises before training, against what fitting then makes of the same pictures."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import stats

from quarterturn.trainer.config import DataSettings
from quarterturn.trainer.data import GoodParts, find_good_parts
from quarterturn.trainer.promise import tell_promises
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.fitting.split import require_enough, split_pictures


def parts(folder: Path, count: int, holdout: float, first: int = 0) -> GoodParts:
    """Pictures of noise, so small that hundreds are soon written."""
    folder.mkdir(exist_ok=True)
    for number in range(first, first + count):
        noise = np.random.default_rng(number).integers(0, 255, (16, 16), np.uint8)
        cv2.imwrite(str(folder / f"{number:04}.png"), noise)
    return find_good_parts(DataSettings(path=folder, holdout=holdout))


@pytest.mark.parametrize(
    ("count", "holdout", "overkill"),
    [(280, 0.35, 0.01), (40, 0.35, 0.05), (30, 0.6, 0.05), (3, 0.3, 0.1), (6, 0.3, 0.1)],
)
def test_too_few_are_told_with_how_many_to_add(
    *, tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int, holdout: float, overkill: float
) -> None:
    tell_promises(parts(tmp_path / "ring", count, holdout), holdout, overkill)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    told = re.search(r"for (\d+)% add (\d+) good pictures before training", record.message)
    others = re.search(r"with (\d+) others as 'calibration'$", record.message)
    assert told
    assert others
    assert int(told[1]) == 100 * overkill
    for missing in (0, 1):
        parts(folder := tmp_path / f"{missing}", count + int(told[2]) - missing, holdout)
        parts(calibration := tmp_path / f"{missing}-calibration", int(others[1]) - missing, 0.5, first=5000)
        for split in (split_pictures(folder, None, holdout), split_pictures(folder, calibration, holdout)):
            if missing:
                with pytest.raises(DataError):
                    require_enough(split, overkill)
            else:
                require_enough(split, overkill)
    least = re.search(r"no smaller overkill than ([\d.]+)%", record.message)
    split = split_pictures(tmp_path / "ring", None, holdout)
    assert (least is None) == (not split.calibration["ring"]) == ("no overkill can be promised" in record.message)
    if least:
        require_enough(split, round(float(least[1]) / 100, 6))


def test_enough_are_told_with_the_bound_of_this_calibration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tell_promises(parts(tmp_path / "ring", 372, 0.35), 0.35, 0.01)
    counted = "ring: 99 of 372 good pictures calibrate (35% are held out)"
    bound = stats.beta(1, 99).ppf(0.95)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        (
            "INFO",
            f"{counted}: an overkill of 1% can be promised on average, and {bound:.2%} with 95% confidence",
        )
    ]


def test_another_overkill_is_promised_sooner(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for overkill in (0.02, 0.01):
        tell_promises(parts(tmp_path / "ring", 186, 0.35), 0.35, overkill)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert "an overkill of 2% can be promised on average" in caplog.messages[0]
