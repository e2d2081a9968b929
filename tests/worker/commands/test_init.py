from __future__ import annotations

import re
from pathlib import Path

import pytest

from quarterturn.worker.commands.main import main

ROOT = Path(__file__).parents[3]
SHIPPED = {path.name: path.read_text() for path in (ROOT / "configs").glob("*.yaml")}


def written(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "configs").iterdir()}


def test_the_shipped_settings_are_written_comments_and_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = tmp_path / "line 3"
    assert main(["init", str(line)]) == 0
    assert written(line) == SHIPPED
    shown = capsys.readouterr().out
    assert f"wrote bank.yaml, build.yaml, demo.yaml, paper.yaml, train.yaml, worker.yaml to {line}/configs\n" in shown
    assert f"next: cd '{line}', put pictures of good parts into pictures/" in shown
    assert shown.endswith("then: quarterturn train\n")


def test_without_a_folder_it_is_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert written(tmp_path) == SHIPPED
    assert "next: put pictures" in capsys.readouterr().out


def test_every_settings_file_that_the_readme_and_the_commands_name_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path)]) == 0
    named = re.findall(r"--config (\S+)", (ROOT / "README.md").read_text())
    assert named
    capsys.readouterr()
    for command in (["train"], ["build"], ["bank", "fit"], ["bank", "push"], ["run"], ["doctor"], ["camera"], ["demo"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        named += re.findall(r"default:\s+(configs/\S+\.yaml)", capsys.readouterr().out)
    assert len(named) > 8
    for config in named:
        assert (tmp_path / config).is_file(), config


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "configs" / "train.yaml"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert main(["init", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"quarterturn: {mine}: is there already and is not overwritten; move it away, or name another folder\n"
    )
    assert written(tmp_path) == {"train.yaml": "mine"}, "nor is anything laid beside it"


def test_a_link_to_nowhere_is_there_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "worker.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    assert main(["init", str(tmp_path)]) == 1
    assert "worker.yaml: is there already" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere.yaml").exists()


def test_a_file_in_the_place_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    assert main(["init", str(taken)]) == 1
    assert capsys.readouterr().err == (
        f"quarterturn: {taken}/configs/bank.yaml: cannot be written (Not a directory); name another folder\n"
    )
