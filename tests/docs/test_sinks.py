"""docs/sinks.md names programs that there are, and says how each program is started."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT, page

TEXT = page("sinks.md")
PROGRAMS = {path.name for path in (ROOT / "examples").glob("*.py") if "from events import" in path.read_text("utf-8")}


def test_every_program_is_in_the_table_and_has_its_command() -> None:
    assert len(PROGRAMS) == 4
    assert set(re.findall(r"^\| .* \| \[(\w+\.py)\]\(\.\./examples/\1\) \|", TEXT, re.MULTILINE)) == PROGRAMS
    assert set(re.findall(r"\bpython (\w+\.py) ", TEXT)) == PROGRAMS
