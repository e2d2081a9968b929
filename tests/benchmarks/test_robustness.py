from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from benchmarks import robustness, streams
from benchmarks.ladders import STEPS, Step, place
from quarterturn.worker.contract.framing import Framing
from tests.benchmarks.small import SMALL
from tests.worker.alerting.test_drift import good, shifted, usual_of, verdict
from tests.worker.contract.test_registration import fitted, lies, seen
from tests.worker.dataset import write_product

Picture = npt.NDArray[np.uint8]


def textured(coarse: float = 1) -> Picture:
    rough = np.random.default_rng(3).normal(size=(384, 512, 3))
    smooth = cv2.GaussianBlur(rough, (0, 0), coarse)
    return np.clip(128 + 50 * smooth / smooth.std(), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step.ladder} {step.says}")
def test_every_step_changes_a_picture_the_same_way_each_time(step: Step) -> None:
    picture = textured()
    before = picture.copy()
    first, again = (step.make(np.random.default_rng(0), picture) for _ in range(2))
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(first, again)
    assert (first.dtype, first.shape) == (picture.dtype, picture.shape)
    assert np.mean(np.any(first != picture, axis=2)) > 0.3


def test_ladders_climb() -> None:
    picture = textured(coarse=30)
    by_ladder: dict[str, list[float]] = {}
    for step in STEPS:
        changed = step.make(np.random.default_rng(0), picture).astype(float)
        by_ladder.setdefault(step.ladder, []).append(float(np.abs(changed - picture).mean()))
    for ladder in ("colour", "blur", "noise", "JPEG", "shift", "rotation"):
        assert by_ladder[ladder] == sorted(by_ladder[ladder]), ladder


@pytest.mark.parametrize(
    "by", [{"right": 0.05}, {"down": -0.05}, {"turn": 4.0}, {"size": 0.04}, {"right": 0.03, "turn": -3.0}], ids=str
)
def test_a_picture_that_was_moved_is_laid_back(by: dict[str, float]) -> None:
    part = seen()
    moved = place(**by)(np.random.default_rng(0), part)
    back = robustness.laid_back(fitted(lies), Framing(side=64), moved)
    off = [float(np.abs(one.astype(int) - part)[10:-10, 10:-10].mean()) for one in (moved, back)]
    assert off[1] < 0.5 * off[0]


def test_streams_tell_when_an_alarm_is_raised_and_that_normal_days_are_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    usual, values = usual_of(rng), good(rng, 100)
    clean, changed = ([verdict(one, usual, 0) for one in some.tolist()] for some in (values, shifted(values, "x", 3)))
    found = streams.drift_after(clean, changed)
    assert found.keys() == {"registration"}
    assert 5 < found["registration"] < 50
    monkeypatch.setattr(streams, "DAYS", 3000)
    bad = [verdict([9.0, *one[1:]], usual, 0, "defect") for one in values[:9].tolist()]
    assert streams.normal_days(clean, bad, 0.2) == {"wander": 0.2, "alarms": {}}
    assert streams.normal_days(changed, bad, 0.0)["alarms"].keys() == {"registration"}


def test_a_set_is_measured_by_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_product(tmp_path / "parts" / "ring", train=120)
    monkeypatch.setattr(robustness, "STEPS", [one for one in STEPS if one.says in ("× 0.6", "8%")])
    monkeypatch.setattr(streams, "DAYS", 2000)
    changes = [word for setting in SMALL for word in ("--set", setting)]
    folders = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--pictures", "6"]
    for _ in range(2):  # the second time with the line that is there
        robustness.main([str(tmp_path / "parts" / "ring"), *folders, *changes])
    (rows, markdown) = (tmp_path / "out" / f"parts-ring.{end}" for end in ("json", "md"))
    assert capsys.readouterr().out == 2 * markdown.read_text(encoding="utf-8")
    found = json.loads(rows.read_text(encoding="utf-8"))
    assert [(row["ladder"], row["step"]) for row in found["rows"]] == [
        ("as they are", ""),
        ("brightness", "× 0.6"),
        ("shift", "8%"),
    ]
    assert "brightness" in found["rows"][1]["drift"] or found["rows"][1]["unusable"] == 1
    assert ["laid back" in row for row in found["rows"]] == [True, False, True]
