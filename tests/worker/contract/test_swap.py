from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.swap import replacing, writing


def write(folder: Path, content: str, *, files: object = ("weights",)) -> None:
    with replacing(folder, "a model") as new:
        (new / "weights").write_text(content)
        listed = dict.fromkeys(files, "hash") if isinstance(files, tuple) else files
        (new / "manifest.json").write_text(json.dumps({"files": listed}))


def test_a_folder_appears_and_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "model"
    for content in ("first", "second"):
        write(out, content)
        assert (out / "weights").read_text() == content
    assert list(out.parent.iterdir()) == [out]


def test_what_fails_half_way_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "model"

    def fail() -> None:
        with replacing(out, "a model") as new:
            (new / "weights").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []
    write(out, "first")
    with pytest.raises(ZeroDivisionError):
        fail()
    assert (out / "weights").read_text() == "first"
    assert list(tmp_path.iterdir()) == [out]


def test_if_the_second_move_fails_the_old_one_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "model"
    write(out, "first")
    original = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError(28, "No space left on device")
        return original(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(DataError, match=r"model: cannot be replaced \(No space left on device\); set 'out' to another"):
        write(out, "second")
    assert (out / "weights").read_text() == "first"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("files", [("others",), (), None, ["weights"], 3])
def test_what_the_manifest_does_not_list_is_not_replaced(tmp_path: Path, files: object) -> None:
    out = tmp_path / "model"
    write(out, "first", files=files)
    with pytest.raises(DataError, match=r"model: holds something besides a model, which would be lost; set 'out'"):
        write(out, "second")
    assert (out / "weights").read_text() == "first"


@pytest.mark.parametrize("manifest", ["", "{", "[]", "[" * 100_000])
def test_a_damaged_manifest_lists_nothing(tmp_path: Path, manifest: str) -> None:
    out = tmp_path / "model"
    write(out, "first")
    (out / "manifest.json").write_text(manifest)
    with pytest.raises(DataError, match="holds something besides a model"):
        write(out, "second")


def test_an_empty_folder_may_go_and_a_file_may_not(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    write(tmp_path / "model", "first")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file: holds something besides a model"):
        write(tmp_path / "file", "first")
    with pytest.raises(DataError, match=r"file/model: cannot be written \(File exists\); set 'out' to another"):
        write(tmp_path / "file" / "model", "first")


def test_a_file_appears_and_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "note.json"
    for content in ("first", "second"):
        with writing(out) as aside:
            aside.write_text(content)
            assert not out.exists() or out.read_text() == "first"
        assert out.read_text() == content
    assert list(out.parent.iterdir()) == [out]


def test_a_full_disk_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "note.json").write_text("first")

    def fill(aside: Path) -> None:
        aside.write_text("ha")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"), writing(tmp_path / "note.json") as aside:
        fill(aside)
    assert [path.name for path in tmp_path.iterdir()] == ["note.json"]
