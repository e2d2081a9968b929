"""A demo writes into a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarterturn.demo.folder import claim
from quarterturn.worker.contract.errors import DataError


def test_a_demo_goes_where_nothing_is_or_where_one_was(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "demo"
    for _ in range(2):
        claim(out)
        (out / "worker.yaml").write_text("line: demo")


def test_what_a_user_keeps_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "worker.yaml").write_text("line: mine")
    with pytest.raises(DataError, match="holds something besides a demo, which would be lost; choose another --out"):
        claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["worker.yaml"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("")
    with pytest.raises(DataError, match=r"demo: cannot be written .*; choose another --out"):
        claim(tmp_path / "demo")
