"""How commands speak: lines and tables as they are, on standard output."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

_WIDE = 10_000  # characters; a table takes those that it needs


def say(what: str | Table) -> None:
    """Print as it is: no markup in names, no line broken, and no cell of a table cut: it may be an id to copy."""
    Console(markup=False, highlight=False, width=_WIDE).print(what, soft_wrap=True)
