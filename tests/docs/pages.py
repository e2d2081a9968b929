"""The pages below docs/, and what stands in their tables."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    """The text of `docs/<name>`."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def names(text: str, head: str) -> list[str]:
    """What stands in backticks in the first cells of the table that begins with the line `head`."""
    rows = text.split(f"\n{head}\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in rows))
