from __future__ import annotations

from pathlib import Path

import pytest

from quarterturn.worker.bankstore.file import FileBankStore
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import DataError, MismatchError, UnavailableError


def test_a_publisher_that_died_half_way_leaves_no_trace(tmp_path: Path, banks: list[Bank]) -> None:
    store = FileBankStore(tmp_path)
    active = store.publish("line-1", banks[0])
    (tmp_path / "line-1" / f".{banks[1].version}.safetensors.tmp").write_bytes(banks[1].blob[:100])
    (tmp_path / "line-1" / ".current.tmp").write_text("00")
    assert store.current("line-1") == active
    assert store.versions("line-1") == [active]
    store.publish("line-1", banks[1])
    assert sorted(path.name for path in (tmp_path / "line-1").iterdir()) == sorted(
        [".lock", "current", f"{banks[0].version}.safetensors", f"{banks[1].version}.safetensors"]
    )


def test_a_folder_that_cannot_be_used(tmp_path: Path, banks: list[Bank]) -> None:
    (tmp_path / "banks").write_text("a file, not a folder")
    store = FileBankStore(tmp_path / "banks")
    match = "the bank folder cannot be used .*check its path, its permissions and the disk"
    with pytest.raises(UnavailableError, match=match):
        store.publish("line-1", banks[0])
    with pytest.raises(UnavailableError, match=match):
        store.current("line-1")


def test_an_active_version_that_was_deleted_by_hand(tmp_path: Path, banks: list[Bank]) -> None:
    store = FileBankStore(tmp_path)
    version = store.publish("line-1", banks[0]).version
    (tmp_path / "line-1" / f"{version}.safetensors").unlink()
    with pytest.raises(DataError, match=f"{version}.safetensors: there is no such bank"):
        store.current("line-1")
    assert store.versions("line-1") == []


def test_a_damaged_file_is_named(tmp_path: Path, banks: list[Bank]) -> None:
    store = FileBankStore(tmp_path)
    version = store.publish("line-1", banks[0]).version
    path = tmp_path / "line-1" / f"{version}.safetensors"
    path.write_bytes(b"")
    with pytest.raises(MismatchError, match=str(path)):
        store.load("line-1", version)


@pytest.mark.parametrize("space", ["\n", "\r\n", " \n\n", "\t"])
def test_an_editor_may_add_a_line_feed_to_the_active_version(tmp_path: Path, banks: list[Bank], space: str) -> None:
    store = FileBankStore(tmp_path)
    version = store.publish("line-1", banks[0]).version
    (tmp_path / "line-1" / "current").write_text(f"{version}{space}", newline="")
    active = store.current("line-1")
    assert active is not None
    assert active.version == version
    assert store.versions("line-1") == [active]


@pytest.mark.parametrize("text", [b"", b"latest", b"0123456789ab", b"../x", b"\xef\xbb\xbf" + b"0" * 64, b"0" * 10_000])
def test_what_is_no_active_version_is_named_and_cured(tmp_path: Path, banks: list[Bank], text: bytes) -> None:
    store = FileBankStore(tmp_path)
    version = store.publish("line-1", banks[0]).version
    (tmp_path / "line-1" / "current").write_bytes(text)
    with pytest.raises(DataError) as caught:
        store.current("line-1")
    assert str(caught.value).startswith(f"{tmp_path}/line-1/current: holds '")
    assert "take one that 'quarterturn bank list' shows with 'quarterturn bank rollback VERSION'" in str(caught.value)
    assert len(str(caught.value)) < 500
    assert [(one.version, one.active) for one in store.versions("line-1")] == [(version, False)]
    active = store.publish("line-1", banks[0])
    assert store.current("line-1") == active
    assert active.version == version
    (tmp_path / "line-1" / "current").write_bytes(text)
    store.activate("line-1", version)
    assert store.current("line-1") == active
