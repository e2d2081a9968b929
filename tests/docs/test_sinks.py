"""docs/sinks.md names programs and tests that there are, and says how each program is started."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/sinks.md").read_text(encoding="utf-8")
PROGRAMS = {path.name for path in (ROOT / "examples").glob("*.py") if "from events import" in path.read_text("utf-8")}


def test_every_program_is_in_the_table_and_has_its_command() -> None:
    assert len(PROGRAMS) == 4
    assert set(re.findall(r"^\| .* \| \[(\w+\.py)\]\(\.\./examples/\1\) \|", TEXT, re.MULTILINE)) == PROGRAMS
    assert set(re.findall(r"\bpython (\w+\.py) ", TEXT)) == PROGRAMS


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) >= 8
    for file, test in named:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{file}::{test}"
