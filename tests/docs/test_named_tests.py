"""A page that promises something names the test that holds it; that test exists."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.pages import ROOT, page

LEAST = {"reliability.md": 20, "alerts.md": 5, "drift.md": 8, "parts.md": 5, "sinks.md": 8}
"""So many tests are named at least: where the pattern finds fewer, it has gone blind."""

NAMED = re.compile(r"`(?:([\w/]+\.py)|…)::(\w+)`")  # `…` is the file named before


def test_no_page_that_names_tests_is_left_out() -> None:
    pages = (path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))
    assert {name for name in pages if NAMED.search(page(name))} == set(LEAST)


@pytest.mark.parametrize("name", LEAST)
def test_every_test_that_is_named_exists(name: str) -> None:
    named = NAMED.findall(page(name))
    assert len(named) >= LEAST[name]
    file = ""
    for own, test in named:
        file = own or file
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{file}::{test}"
