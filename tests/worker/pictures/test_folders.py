from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.pictures import folders
from quarterturn.worker.pictures.folders import folders_in, holds_pictures, list_pictures, pictures_in
from quarterturn.worker.pictures.sets import good_pictures


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


HIDDEN = [
    *(".cache", ".ipynb_checkpoints", ".Trash-1000", "@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN"),
    *("__MACOSX", "lost+found", "System Volume Information"),
]


@pytest.mark.parametrize("folder", HIDDEN)
@pytest.mark.parametrize("above", ["", "train/good/", "train/good/monday/"])
def test_what_systems_leave_is_never_read(tmp_path: Path, folder: str, above: str) -> None:
    root = touch(tmp_path / "nut", "train/good/monday/0.png", f"{above}{folder}/1.png", f"{above}{folder}/a/2.png")
    assert good_pictures(root) == {"nut": [root / "train/good/monday/0.png"]}
    assert folder not in [child.name for child in folders_in(root / above)]


@pytest.mark.parametrize("name", ["._0.png", ".0.png", ".DS_Store", "Thumbs.db", "desktop.ini", "._a/0.png"])
def test_hidden_files_are_never_read(tmp_path: Path, name: str) -> None:
    root = touch(tmp_path, "a/0.png", f"a/{name}", name)
    assert list_pictures(root) == [root / "a/0.png"]
    assert pictures_in(root) == []
    assert not holds_pictures(touch(tmp_path / "alone", name))


def test_only_what_is_hidden_below_the_folder_counts(tmp_path: Path) -> None:
    root = touch(tmp_path / ".cache" / "@eaDir", "0.png")
    assert list_pictures(root) == [root / "0.png"]


def test_links_are_followed_as_folders_and_files_are(tmp_path: Path) -> None:
    elsewhere = touch(tmp_path / "elsewhere", "monday/0.png", "1.png")
    root = touch(tmp_path / "nut", "2.png")
    (root / "linked").symlink_to(elsewhere)
    (root / "3.png").symlink_to(elsewhere / "1.png")
    assert [path.relative_to(root).as_posix() for path in list_pictures(root)] == [
        "2.png",
        "3.png",
        "linked/1.png",
        "linked/monday/0.png",
    ]


def loop_to_itself(root: Path) -> None:
    (root / "loop").symlink_to(root)


def loop_below(root: Path) -> None:
    (root / "a").mkdir()
    (root / "a" / "loop").symlink_to(root / "a")


def loop_of_two(root: Path) -> None:
    for one, other in (("x", "y"), ("y", "x")):
        (root / one).mkdir(exist_ok=True)
        (root / one / "on").symlink_to(root / other)


def link_to_itself(root: Path) -> None:
    (root / "0.png").symlink_to(root / "0.png")


def link_to_nothing(root: Path) -> None:
    (root / "0.png").symlink_to(root / "gone.png")


def no_utf8(root: Path) -> None:
    (root / os.fsdecode(b"Schr\xe4ge.png")).write_bytes(b"")


def no_utf8_folder(root: Path) -> None:
    folder = root / os.fsdecode(b"\xff")
    folder.mkdir()
    (folder / "0.png").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (loop_to_itself, r"loop: is a link to a folder that it lies in; remove the link"),
        (loop_below, r"a/loop: is a link to a folder that it lies in"),
        (loop_of_two, r"x/on/on: is a link to a folder that it lies in"),
        (link_to_itself, r"0\.png: cannot be read \(Too many levels of symbolic links\); mend or remove it"),
        (link_to_nothing, r"0\.png: is a link to nothing; mend or remove it"),
        (no_utf8, r"Schr\\xe4ge\.png: its name is no UTF-8 text; rename it"),
        (no_utf8_folder, r"\\xff: its name is no UTF-8 text; rename it"),
    ],
)
def test_what_cannot_be_listed_is_one_sentence(tmp_path: Path, spoil: Callable[[Path], None], sentence: str) -> None:
    touch(tmp_path, "z.png")
    spoil(tmp_path)
    with pytest.raises(DataError, match=sentence) as caught:
        list_pictures(tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("read", [list_pictures, folders_in, pictures_in, good_pictures])
def test_a_folder_that_may_not_be_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    def refuse(folder: Path) -> None:  # as for a user; root may read every folder
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(folders.os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\); correct its permissions"):
        read(touch(tmp_path, "0.png"))


@pytest.mark.parametrize("read", [list_pictures, folders_in, pictures_in, good_pictures])
def test_a_file_is_no_folder(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(DataError, match=r"0\.png: there is no such folder; check the path"):
        read(touch(tmp_path, "0.png") / "0.png")
