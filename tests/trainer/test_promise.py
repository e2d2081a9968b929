"""What is said of promises before training, against what fitting then makes of the same pictures."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from scipy import stats

from quarterturn.trainer.config import DataSettings
from quarterturn.trainer.data import GoodParts, find_good_parts
from quarterturn.trainer.promise import tell_promises
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.fitting.split import require_enough, split_pictures


def parts(folder: Path, count: int, holdout: float) -> GoodParts:
    """Nobody looks into the files."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"{number:04}.png").touch()
    return find_good_parts(DataSettings(path=folder, holdout=holdout))


@pytest.mark.parametrize(("count", "holdout"), [(40, 0.35), (280, 0.35), (371, 0.35), (200, 0.6), (2, 0.1), (6, 0.2)])
def test_too_few_are_told_with_how_many_to_add(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int, holdout: float
) -> None:
    tell_promises(parts(tmp_path / "ring", count, holdout) if count > 2 else few(tmp_path), holdout, 0.01)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    more = int(re.search(r"for 1% add (\d+) good pictures before training", record.message)[1])
    others = int(re.search(r"with (\d+) others as 'calibration'$", record.message)[1])
    for enough, missing in ((True, 0), (False, 1)):
        parts(folder := tmp_path / f"{enough}", count + more - missing, holdout)
        parts(calibration := tmp_path / f"{enough}-calibration", others - missing, 0.5)
        for split in (split_pictures(folder, None, holdout), split_pictures(folder, calibration, holdout)):
            if enough:
                require_enough(split, 0.01)
            else:
                with pytest.raises(DataError):
                    require_enough(split, 0.01)
    told = re.search(r"no smaller overkill than ([\d.]+)%", record.message)
    calibrating = split_pictures(tmp_path / "ring", None, holdout).calibration["ring"]
    assert (told is None) == (not calibrating) == ("no overkill can be promised" in record.message)
    if told:
        require_enough(split_pictures(tmp_path / "ring", None, holdout), round(float(told[1]) / 100, 6))


def few(folder: Path) -> GoodParts:
    """Two to learn from and hold out: what `find_good_parts` itself refuses."""
    parts(folder / "ring", 4, 0.5)
    for path in sorted((folder / "ring").iterdir())[2:]:
        path.unlink()
    one, other = sorted((folder / "ring").iterdir())
    return GoodParts(("ring",), ([one],), ([other],))


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
