"""Networks of other makes, by the commands that a user would run: train, build, bank fit, evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.lines import quarterturn
from tests.parts import good_part, png, scratched_part


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("plant") / "ring"
    for place, make, count in (
        ("train/good", good_part, 60),
        ("test/good", good_part, 8),
        ("test/bad", scratched_part, 8),
    ):
        (root / place).mkdir(parents=True)
        for number in range(count):
            (root / place / f"{number:03}.png").write_bytes(png(make(rng)))
    return root


@pytest.mark.parametrize("backbone", ["resnet18", "vit_tiny_patch16_224"])
def test_from_pictures_to_figures(
    backbone: str, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = {
        "train": {
            "data": {"path": str(parts), "side": 64, "holdout": 0.5},
            "architecture": {"backbone": backbone},
            "weights": "none",
            "projection": {"steps": 5, "pictures": 8},
            "head": {"steps": 5, "frames": 8},
            "out": str(tmp_path / "model"),
        },
        "build": {"model": str(tmp_path / "model"), "out": str(tmp_path / "engine")},
        "bank": {
            "engine": {"path": str(tmp_path / "engine")},
            "data": str(parts),
            "overkill": 0.1,
            "out": str(tmp_path / "ring.bank"),
        },
        "worker": {
            "line": "line-1",
            "engine": {"path": str(tmp_path / "engine")},
            "bank": {"file": {"path": str(tmp_path / "banks")}},
            "transport": {"folder": {"path": str(parts), "out": str(tmp_path / "results.jsonl")}},
            "overkill": 0.1,
        },
    }
    config = {name: tmp_path / f"{name}.yaml" for name in documents}
    for name, document in documents.items():
        config[name].write_text(yaml.safe_dump(document))
    quarterturn("train", "--config", str(config["train"]))
    quarterturn("build", "--config", str(config["build"]))
    quarterturn("bank", "fit", "--config", str(config["bank"]))
    capsys.readouterr()
    bank = str(tmp_path / "ring.bank")
    quarterturn(
        "evaluate", "--config", str(config["worker"]), "--bank", bank, "--data", str(parts), "--json", "--no-probe"
    )
    figures = json.loads(capsys.readouterr().out)
    verdicts = figures["pictures"]
    assert len(verdicts) == 16
    scores = {good: [one["score"] for one in verdicts if (one["defect"] == "good") == good] for good in (True, False)}
    assert np.median(scores[False]) > max(scores[True]), "even random features see a large scratch"
