from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from quarterturn.worker.bankstore.file import FileBankStore
from quarterturn.worker.commands import explain as command
from quarterturn.worker.commands.main import main
from quarterturn.worker.contract.bank import Bank
from tests.parts import NumpyEngine, png, scratched_part
from tests.worker.commands.settings import worker_yaml


@pytest.fixture
def config(tmp_path: Path, engine: NumpyEngine, bank: Bank, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(command, "open_engine", lambda _: engine)
    FileBankStore(tmp_path / "banks").publish("line-1", bank)
    (tmp_path / "part.png").write_bytes(png(scratched_part(np.random.default_rng(0))))
    return worker_yaml(tmp_path, "overkill: 0.02\ncameras: {top: {products: [ring]}}")


def test_a_picture_is_explained_in_the_terminal_as_json_and_as_a_page(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, html = str(tmp_path / "part.png"), tmp_path / "new" / "why.html"
    shared = ["explain", picture, "--config", str(config), "--camera", "top"]
    assert main([*shared, "--html", str(html)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("ALERT, defect of ring: it scores ")
    assert html.read_text(encoding="utf-8").endswith("</html>")
    assert main([*shared, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sentence"].split(":")[0] == "ALERT, defect of ring"
    assert main(["explain", picture, "--config", str(config), "--product", "bracket", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["product"] == "bracket"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["part 8.png"], "part 8.png: is neither a picture file nor the resultId of a verdict; correct it"),
        (["frames:0:7"], "transport.kafka is missing; results are explained from Kafka; name a picture FILE instead"),
        (["frames:0:7", "--camera", "top"], "--camera and --product are of a picture FILE; the verdict of frames:0:7 "),
        (
            ["frames:0:7", "--product", "ring"],
            "--camera and --product are of a picture FILE; the verdict of frames:0:7 ",
        ),
        (["part.png", "--html", "/proc/none/why.html"], "/proc/none/why.html: cannot be written "),
        (["part.png", "--product", "nut"], "{part}: cannot be judged: product nut is not in the bank (bracket, ring)"),
        (["part.png", "--camera", "side"], "camera side: is not listed under cameras (top)"),
    ],
    ids=str,
)
def test_faults_are_one_sentence(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    part = str(tmp_path / "part.png")
    what = part if arguments[0] == "part.png" else arguments[0]
    assert main(["explain", what, *arguments[1:], "--config", str(config)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"quarterturn: {said.format(part=part)}")
