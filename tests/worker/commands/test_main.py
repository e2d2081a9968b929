from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import quarterturn
from quarterturn.worker.commands import run
from quarterturn.worker.commands.main import main
from quarterturn.worker.contract.settings import load_settings
from quarterturn.worker.settings.worker import WorkerSettings
from tests.parts import png
from tests.tiff import RGB, tiff

ROOT = Path(__file__).parents[3]


def test_a_misspelt_key_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = yaml.safe_load((ROOT / "configs/worker.yaml").read_text())
    document["transport"]["kafka"]["topc"] = "frames"
    config = tmp_path / "line3.yaml"
    config.write_text(yaml.safe_dump(document))
    assert main(["run", "--config", str(config)]) == 1
    assert capsys.readouterr().err == (
        f"quarterturn: {config}: transport.kafka.topc is unknown; did you mean 'topics'?\n"
    )


def test_opencv_does_not_speak_for_itself(tmp_path: Path) -> None:
    """It would, of each picture that it cannot read; a refusal is one sentence of ours."""
    for folder in ("train/good", "test/good", "test/bad"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "0.png").write_bytes(png(np.zeros((40, 40, 3), np.uint8)))
    (tmp_path / "test" / "bad" / "1.tif").write_bytes(tiff([bytes(500)], 10, 10, bits=(8,) * 5, photometric=RGB))
    command = [sys.executable, "-m", "quarterturn.worker.commands", "probe", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, "cannot read this picture" in done.stdout) == (0, True)
    assert "grfmt" not in done.stderr


def test_the_shipped_settings_are_valid() -> None:
    assert load_settings(ROOT / "configs/worker.yaml", WorkerSettings).transport.kafka is not None


@pytest.mark.parametrize("name", ["train", "paper", "build", "bank", "demo"])
def test_the_other_shipped_settings_are_valid(name: str) -> None:
    from quarterturn.demo.config import DemoSettings
    from quarterturn.engine_build.config import BuildSettings
    from quarterturn.trainer.config import TrainSettings
    from quarterturn.worker.settings.bank import FitSettings

    models = {
        "train": TrainSettings,
        "paper": TrainSettings,
        "build": BuildSettings,
        "bank": FitSettings,
        "demo": DemoSettings,
    }
    load_settings(ROOT / f"configs/{name}.yaml", models[name])


def test_what_nobody_foresaw_is_one_sentence_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(run, "read_config", lambda *_: fail(None))
    assert main(["run"]) == 1
    assert "unexpected ZeroDivisionError: division by zero" in capsys.readouterr().err


def test_a_missing_extra_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The package is made anew here; whoever comes later is to find the one that the modules belong to.
    monkeypatch.setattr(quarterturn, "trainer", getattr(quarterturn, "trainer", None), raising=False)
    for name in [module for module in sys.modules if module.startswith("quarterturn.trainer")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["train"]) == 1
    assert capsys.readouterr().err == (
        "quarterturn: this command needs the package 'torch'; install it with: pip install 'quarterturn[train]'\n"
    )


def test_a_target_can_be_named_in_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "build.yaml"
    config.write_text("targets: [openvino]\n")
    assert main(["build", "--config", str(config), "--target", "tensorflow"]) == 1
    assert capsys.readouterr().err == (
        "quarterturn: --set targets: targets.0 = 'tensorflow': "
        "input should be 'openvino', 'onnxruntime' or 'tensorrt'\n"
    )
