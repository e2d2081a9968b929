"""The programs in examples/ that need no service, run as a user runs them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from tests.api.plant import ENVIRONMENT, EXAMPLES, Plant, run_python


def test_score_a_folder(plant: Plant, tmp_path: Path) -> None:
    for kind, count in (("good", 12), ("scratch", 3)):
        for path in sorted((plant.pictures / "test" / kind).iterdir())[-count:]:
            (tmp_path / f"{kind}-{path.name}").write_bytes(path.read_bytes())
    (tmp_path / "notes.txt").write_text("no picture")
    lines = run_python(EXAMPLES / "score_folder.py", plant.engine, plant.bank, tmp_path, cwd=tmp_path).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(path) for path in sorted(tmp_path.iterdir())]
    said = [re.sub(r"[\d.]+$", "N", line.partition(": ")[2]) for line in lines]
    assert said[:12].count("good, score N") >= 9  # which ones alert, with an overkill of 5%, is this machine's choice
    assert set(said[:12]) <= {"good, score N", "defect, score N"}
    assert "picture" in said[12]
    assert said[13:] == ["defect, score N"] * 3


def test_it_is_ten_lines_long() -> None:
    program = (EXAMPLES / "score_folder.py").read_text(encoding="utf-8")
    assert len(program.partition("\nengine")[2].splitlines()) <= 11


def test_the_inspector_in_a_loop_of_ones_own(plant: Plant, tmp_path: Path) -> None:
    frames = [plant.pictures / f"test/{kind}/000.png" for kind in ("good", "scratch", "good", "scratch")]
    for number, path in enumerate(frames):
        (tmp_path / f"{number:03}.png").write_bytes(path.read_bytes())
    out = tmp_path / "out"
    out.mkdir()
    said = run_python(EXAMPLES / "own_loop.py", plant.engine, plant.bank, "%03d.png", out, cwd=tmp_path)
    alerts = "frame 1: defect, score N\nframe 3: defect, score N\n"
    assert re.sub(r"score [\d.]+", "score N", said) == f"{alerts}4 frames\n"
    assert sorted(path.name for path in out.iterdir()) == ["000001.png", "000003.png"]
    plain, drawn = (cv2.imread(str(path)).astype(int) for path in (frames[1], out / "000001.png"))
    change = (drawn - plain)[14:26, 18:26].mean(axis=(0, 1))  # on the scratch; blue, green, red
    assert change[0] < -20
    assert change[0] + 20 < change[2], "not in red"


def test_a_transport_of_ones_own(plant: Plant, tmp_path: Path) -> None:
    """What is there is inspected, and what comes later; on Ctrl-C it ends well, and another run goes on from there."""
    drop(plant, "good", tmp_path)
    with drop_folder(plant, tmp_path) as process:
        wait_for_results(tmp_path, ["good"], process)
    first = (tmp_path / "good.png.json").read_bytes()
    drop(plant, "scratch", tmp_path)
    with drop_folder(plant, tmp_path) as process:
        wait_for_results(tmp_path, ["good", "scratch"], process)
        drop(plant, "wear", tmp_path)
        wait_for_results(tmp_path, ["good", "scratch", "wear"], process)
    assert (tmp_path / "good.png.json").read_bytes() == first, "inspected twice"
    results = [json.loads(path.read_bytes()) for path in sorted(tmp_path.glob("*.json"))]
    said = [(data["partId"], data["alert"]) for data in results]
    assert said == [("good", None), ("scratch", "defect"), ("wear", None)]
    assert len({data["resultId"] for data in results}) == 3
    assert not list(tmp_path.glob("*.tmp"))


def drop(plant: Plant, kind: str, folder: Path) -> None:
    """Let a picture appear as a whole."""
    new = folder / "new"
    new.write_bytes((plant.pictures / f"test/{kind}/001.png").read_bytes())
    new.rename(folder / f"{kind}.png")


@contextmanager
def drop_folder(plant: Plant, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The program on this folder; at the end of the block it gets a Ctrl-C."""
    command = [sys.executable, "-W", "error", EXAMPLES / "custom_transport.py", plant.engine, plant.bank, folder]
    with subprocess.Popen(command, env=ENVIRONMENT) as process:
        try:
            yield process
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


def wait_for_results(folder: Path, names: list[str], process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + 60
    while (found := sorted(path.name for path in folder.glob("*.json"))) != [f"{name}.png.json" for name in names]:
        assert process.poll() is None, "it ended early"
        assert time.monotonic() < deadline_s, found
        time.sleep(0.05)
