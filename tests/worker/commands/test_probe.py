from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from quarterturn.worker.commands.probe import add_arguments
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.evaluation.probe.confounders import CONFOUNDERS, chance_bound
from quarterturn.worker.pictures.decode import decode_picture
from tests.parts import deepen, png_of_depth
from tests.worker.evaluation.probe.surfaces import as_png, brighter, surface, write_set


def run(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    parsed = parser.parse_args([str(argument) for argument in arguments])
    parsed.run(parsed)


def test_the_command_prints_a_table_and_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(write_set(tmp_path / "ring", change=brighter))
    printed = capsys.readouterr().out
    assert "ring: 24 good and 24 bad to test, 24 good to train" in printed
    assert all(confounder in printed for confounder in CONFOUNDERS)
    assert "brightness alone separates good from bad: 1.00 (bad pictures are brighter)" in printed


def test_the_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_set(tmp_path / "ring", change=brighter)
    as_png(root / "test" / "good" / "again.png", surface(5))
    run(root, "--json")
    document = json.loads(capsys.readouterr().out)
    assert document["findings"][0]["strength"] == "strong"
    (product,) = document["products"]
    assert product["product"] == "ring"
    assert (product["bad"]["reference"], product["bad"]["group"]) == (25, 24)
    assert product["bad"]["bound"] == pytest.approx(chance_bound(25, 24))
    assert product["bad"]["confounders"][0] == {"confounder": "brightness", "auroc": 1.0, "how": "brighter"}
    assert [one["confounder"] for one in product["shift"]["confounders"]] == list(CONFOUNDERS)
    (pair,) = product["near_duplicates"]
    assert (Path(pair["test"]).name, Path(pair["train"]).name) == ("again.png", "0005.png")
    assert document["unreadable"] == []


def test_a_folder_without_labels_is_one_sentence(tmp_path: Path) -> None:
    as_png(tmp_path / "one.png", surface(0))
    with pytest.raises(DataError, match="holds no test/<type>/ folder"):
        run(tmp_path)


def test_the_depth_is_that_which_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_set(tmp_path / "ring", change=brighter, count=6)
    for path in [*root.rglob("*.png"), *root.rglob("*.jpg")]:
        path.with_suffix(".png").write_bytes(png_of_depth(decode_picture(path.read_bytes()), 16))
    run(root, "--json", "--bit-depth", "16")
    plain = json.loads(capsys.readouterr().out)
    deepen(root, 12)
    run(root, "--json", "--bit-depth", "12")
    deep = json.loads(capsys.readouterr().out)
    brightness = [found["products"][0]["shift"]["confounders"][0] for found in (plain, deep)]
    assert brightness[0] == brightness[1]
    with pytest.raises(DataError, match=r"none of 18 pictures can be read; the first, .* but 10 bits end at 1023"):
        run(root, "--json", "--bit-depth", "10")
    with pytest.raises(SystemExit):
        run(root, "--bit-depth", "11")
