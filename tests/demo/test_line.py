"""The demo on a tiny line: every step for real, only smaller."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from quarterturn.demo.render import render_line
from quarterturn.demo.stream import WRONG_PRODUCT, lay_out
from quarterturn.worker.commands.main import main
from quarterturn.worker.pictures.sets import GOOD, list_pictures, test_pictures

SMALL = [
    "train.data.side=96",  # grids of places that no tiles would take
    "train.architecture.backbone=test_resnet",
    "train.weights=none",
    "train.projection.steps=2",
    "train.head.steps=2",
    "train.precision=float32",
    "bank.overkill=0.1",
]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    render_line(folder, side=40, train=30, test=6, defects=2)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("services", ["none", "kafka and redis"])
def test_the_whole_way(
    parts: Path,
    services: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capfd: pytest.CaptureFixture[str],
) -> None:
    request.getfixturevalue("monkeypatch").setenv(
        "QUARTERTURN_BANK__OVERKILL", "0.5"
    )  # --set wins; the demo's worker has no such setting
    out = tmp_path / "out"
    arguments = ["demo", "--data", str(parts), "--out", str(out), *(f"--set={one}" for one in SMALL)]
    if services != "none":
        bootstrap, redis = request.getfixturevalue("kafka_bootstrap"), request.getfixturevalue("redis_url")
        arguments += ["--kafka", bootstrap, "--redis", redis]
    assert main(arguments) == 0, capfd.readouterr().err

    shown = " ".join(capfd.readouterr().out.split())
    frames = len(list_pictures(out / "frames"))
    assert f"{frames} frames" in shown
    assert "of the raw backbone" in shown
    assert "wrong_product" in shown
    for product in ("connector", "flange"):
        assert (
            f"{product}: at most 10.00% of good parts are rejected on average (asked for: 10%), and with 95%" in shown
        )
        assert re.search(rf"{product}: \d of 6 good parts were rejected; with a promise of 10% on average", shown)
    report = (out / "report.html").read_text()
    assert "Which overkill to ask for" in report
    assert "Votes of the detectors" in report
    worker = yaml.safe_load((out / "worker.yaml").read_text())
    assert ("kafka" in worker["transport"]) == (services != "none")
    if services == "none":
        events = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
        assert sum(event["kind"] != "alert" for event in events) == frames


def test_too_few_pictures_are_said_before_training(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    overrides = [f"--set={one}" for one in (*SMALL, "bank.overkill=0.01")]
    assert main(["demo", "--data", str(parts), "--out", str(out), *overrides]) == 1
    told = capsys.readouterr()
    assert "an overkill of 1.000% needs 99 calibration pictures" in told.err
    assert "Train an encoder" not in told.out
    assert not out.exists()


def test_frames_are_laid_out_by_camera_with_some_wrong_products(parts: Path, tmp_path: Path) -> None:
    pictures = test_pictures(parts)
    truth = lay_out(pictures, tmp_path / "frames", seed=0)
    assert {path.relative_to(tmp_path / "frames").as_posix() for path in list_pictures(tmp_path / "frames")} == set(
        truth
    )
    assert {part_id.split("/")[0] for part_id in truth} == {"cam-flange", "cam-connector"}
    for part_id, part in truth.items():
        assert part_id.startswith(f"cam-{part.product}/")
        assert (tmp_path / "frames" / part_id).read_bytes() == part.path.read_bytes()
    wrong = [part for part in truth.values() if part.defect == WRONG_PRODUCT]
    assert len(wrong) == sum(picture.defect == GOOD for picture in pictures)
    assert all(part.product not in part.path.parts for part in wrong)
    assert lay_out(pictures, tmp_path / "frames", seed=0) == truth


@pytest.mark.parametrize("more", [[], ["--kafka", "localhost:1", "--data", "pictures"]])
def test_the_story_needs_kafka_and_renders_its_parts(capsys: pytest.CaptureFixture[str], more: list[str]) -> None:
    assert main(["demo", "--story", *more]) == 1
    assert "demo --story renders its parts and needs Kafka: give --kafka HOST:PORT" in capsys.readouterr().err
