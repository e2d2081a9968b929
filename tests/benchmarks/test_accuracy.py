from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks.foreign import FOREIGN
from quarterturn.demo.config import DemoSettings, settings_for
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.pictures.sets import test_pictures as labelled_pictures
from tests.benchmarks.small import SMALL
from tests.parts import png


def row(**changes: Any) -> dict[str, Any]:
    measured = dict.fromkeys(("average_precision", "recall_at_1", "overkill", "pixel_auroc", "aupro", "peak_in_mask"))
    measured["escape"] = {"1%": None, "2%": 0.25}
    return {
        "set": "mvtec/screw",
        "matched": True,
        "settings": "a1",
        "variant": "trained",
        "seed": 0,
        "overrides": ["train.head.steps=9"],
        "target": "openvino",
        "good": 4,
        "bad": 5,
        "masks": 0,
        "auroc": 0.9,
        "promised": 0.01,
        "votes": {"frame": 0.25, "nearest.deep": 0.75},
        "pasted": {"frame": 0.6, "nearest.deep": 0.8},
        "foreign": dict.fromkeys(FOREIGN, 2.0),
        "views": 4,
        "bank_mb": 3.25,
        "training_cpu_s": 60.0,
        "cpu_s": 100.0,
        **measured,
        **changes,
    }


def lines_of(rows: list[dict[str, Any]], chosen_on: str = "screw") -> list[str]:
    return accuracy.table(rows, [chosen_on]).splitlines()


def test_the_table_says_means_and_ranges() -> None:
    rows = [
        row(auroc=0.90, aupro=0.5, overkill=0.01),
        row(auroc=0.99, aupro=0.7, overkill=0.03, votes={"learned": 0.6, "frame": 0.4}, views=1, seed=1),
        row(auroc=0.93, aupro=0.6, overkill=0.02, votes={"frame": 1.0}, seed=2),
        row(auroc=0.60, variant="raw"),
        {**row(variant="probe", seed=None), "finding": "brightness alone separates"},
    ]
    lines = lines_of(rows)
    assert lines[0].startswith("Settings were chosen on screw")
    trained, raw = [line.split(" | ") for line in lines if line.startswith("| mvtec/screw\\*")]
    assert trained[:5] == ["| mvtec/screw\\*†", "trained", "0.940 (0.900–0.990)", "–, 25.0%", "2.0% (1.0%)"]
    assert trained[5:9] == ["–", "0.600", "–", "frame 55%, nearest.deep 25%, learned 20%"]
    assert trained[9:] == ["4 2×, 1 1×", "3.2", "60, 100 |"]
    assert raw[1:3] == ["raw", "0.600 (0.600–0.600)"]
    (note,) = (line for line in lines if line.startswith("- "))
    assert note.startswith("- mvtec/screw\\*†, settings a1; 4 good, 5 bad, 0 masks; 3 seeds; through openvino, `train.")
    assert note.endswith("probe: brightness alone separates")
    heads, rule = (next(line for line in lines if line.startswith(start)) for start in ("| set", "|---"))
    assert heads.count("|") == rule.count("|") == " | ".join(trained).count("|")


def test_of_foreign_frames_the_least_of_all_seeds_is_shown() -> None:
    higher, lower = ({**dict.fromkeys(FOREIGN, 3.0), "black": black} for black in (2.25, 1.1))
    rows = [row(foreign=higher), row(foreign=lower, seed=1), row(foreign=dict.fromkeys(FOREIGN, 0.1), variant="raw")]
    head, rule, *found = lines_of(rows)[-3:]
    assert head == f"| frames without a part | {' | '.join(FOREIGN)} |"
    assert rule.count("|") == head.count("|")
    assert found == ["| mvtec/screw† | 1.1 | " + " | ".join(["3.0"] * (len(FOREIGN) - 1)) + " |"]


def test_other_settings_and_unmatched_copies_get_lines_of_their_own() -> None:
    lines = lines_of([row(), row(settings="b2"), row(matched=False), row(set="x/y")], chosen_on="tile")
    assert [line.split(" | ")[0] for line in lines if line.startswith("| ") and " trained " in line] == [
        "| mvtec/screw†, settings a1",
        "| mvtec/screw†, settings b2",
        "| mvtec/screw",
        "| x/y†",
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set whose pictures were all taken under another lamp; defects are dark spots, one has a mask."""
    rng = np.random.default_rng(0)
    root = tmp_path / "plant" / "ring"
    for place, count in (("train/good", 24), ("test/good", 4), ("test/spot", 4)):
        (root / place).mkdir(parents=True)
        for number in range(count):
            picture = rng.integers(60, 100, (48, 64, 3)).astype(np.float64)
            if place == "test/spot":
                picture[8:20, 8:24] = 5
            lamp = rng.uniform(0.6, 1.6)
            (root / place / f"{number}.png").write_bytes(png((picture * lamp).astype(np.uint8)))
    (root / "ground_truth" / "spot").mkdir(parents=True)
    mask = np.zeros((48, 64), np.uint8)
    mask[8:20, 8:24] = 255
    cv2.imwrite(str(root / "ground_truth" / "spot" / "1_mask.png"), mask)
    return root


def grey(path: Path) -> np.ndarray:
    """Weights of ITU-R BT.601."""
    picture = cv2.imread(str(path)).astype(float)[..., ::-1]
    return picture @ [0.299, 0.587, 0.114]


def test_brightness_is_matched_and_nothing_else_changes(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "ring"
    accuracy.match_brightness(folder, copy)
    wanted = np.median([np.median(grey(path)) for path in (folder / "train").rglob("*.png")])
    pictures = [*(folder / "train").rglob("*.png"), *(one.path for one in labelled_pictures(folder))]
    assert len(pictures) == 32
    for path in pictures:
        before, after = grey(path), grey(copy / path.relative_to(folder))
        assert np.median(after) == pytest.approx(wanted, abs=1)
        np.testing.assert_allclose(after, before * wanted / np.median(before), atol=2)  # a gain: contrast goes with it
    mask = Path("ground_truth/spot/1_mask.png")
    assert (copy / mask).read_bytes() == (folder / mask).read_bytes()
    assert {path.relative_to(folder) for path in folder.rglob("*.*")} == {
        path.relative_to(copy) for path in copy.rglob("*.*")
    }


def test_a_run_takes_the_whole_way(folder: Path, tmp_path: Path) -> None:
    arguments = accuracy.parse([str(folder), *(f"--set={one}" for one in SMALL)])
    found = accuracy.run(settings_for(arguments.config, folder, tmp_path / "run", arguments.overrides))
    assert (found["good"], found["bad"], found["masks"]) == (4, 4, 1)
    assert (found["promised"], found["target"]) == (0.2, "openvino")
    for name in ("auroc", "average_precision", "recall_at_1", "overkill", "pixel_auroc", "aupro"):
        assert 0 <= found[name] <= 1, name
    assert sum(found["votes"].values()) == pytest.approx(1)
    assert found["votes"].keys() == found["pasted"].keys() >= {"frame", "nearest.deep", "position"}
    assert found["peak_in_mask"] in (0, 1)
    assert found["escape"] == {"1%": None, "2%": None}  # too few pictures to promise them
    assert 0 < found["training_cpu_s"] < found["cpu_s"]
    assert found["bank_mb"] > 0
    assert found["foreign"].keys() == FOREIGN.keys()
    assert all(ratio > 0 for ratio in found["foreign"].values())
    json.dumps(found)


def test_runs_are_written_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[tuple[int, int, str]] = []

    def run(settings: DemoSettings) -> dict[str, Any]:
        assert settings.build.model == settings.train.out
        assert (settings.bank.data, settings.bank.engine.path) == (settings.train.data.path, settings.build.out)
        taken.append((settings.train.head.steps, settings.train.seed, settings.train.data.path.name))
        if len(taken) == 3:
            raise DataError("ring: is cut off")
        return {name: value for name, value in row().items() if name not in (*accuracy.KEY, "overrides")}

    monkeypatch.setattr(accuracy, "run", run)
    arguments = [str(folder), "--out", str(tmp_path / "out"), "--seeds", "2", "--match-brightness"]
    with pytest.raises(SystemExit, match="error: ring: is cut off"):
        accuracy.main([*arguments, "--set=train.head.steps=5"])
    assert taken == [(5, 0, "ring"), (0, 0, "ring"), (5, 1, "ring")]
    accuracy.main([*arguments, "--set=train.head.steps=5"])
    assert taken[3:] == [(5, 1, "ring")]
    accuracy.main([*arguments, "--set=train.head.steps=5", "--set=train.seed=7"])  # the seeds are ours
    assert len(taken) == 4
    accuracy.main([*arguments, "--set=train.head.steps=6"])
    assert taken[4:] == [(6, 0, "ring"), (0, 0, "ring"), (6, 1, "ring")]
    capsys.readouterr()
    accuracy.main(["--table", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out" / "table.md").read_text()
    assert printed.count("| plant/ring†, settings ") == 4
    assert printed.count("; probe: ") == 2


def test_faults_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"error: .*nowhere: there is no such folder; check the path"):
        accuracy.main([str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        accuracy.main(["--out", str(tmp_path / "out")])
    assert "name a folder to measure, or --table" in capsys.readouterr().err
