"""The two halves of the suite, on a suite of two tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import halves

SUITE = """
import os
import pytest

@pytest.mark.server
def test_of_a_server():
    assert {server}

def test_of_none():
    assert {none}
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take longer than these tests
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = server\n")
    return tmp_path / "test_two.py"


@pytest.mark.parametrize(("server", "none"), [(False, True), (True, False)])
def test_both_are_run_and_both_have_to_pass(
    suite: Path, capfd: pytest.CaptureFixture[str], *, server: bool, none: bool
) -> None:
    suite.write_text(SUITE.format(server=server, none=none))
    assert halves.main(["-v"]) == 1
    said = capfd.readouterr().out
    assert f"test_of_a_server {'PASSED' if server else 'FAILED'}" in said
    assert f"test_of_none {'PASSED' if none else 'FAILED'}" in said


def test_those_without_a_server_yield_to_the_others(suite: Path) -> None:
    mine = os.nice(0)
    suite.write_text(SUITE.format(server=f"os.nice(0) == {mine}", none=f"os.nice(0) > {mine}"))
    assert halves.main([]) == 0


@pytest.mark.parametrize(("name", "code"), [("test_of_none", 0), ("nothing", 1)])
def test_an_empty_half_is_no_fault_but_two_are(suite: Path, name: str, code: int) -> None:
    suite.write_text(SUITE.format(server=True, none=True))
    assert halves.main(["-k", name]) == code
