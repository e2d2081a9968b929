"""How commands speak: lines and tables as they are, on standard output."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def say(what: str | Table) -> None:
    """Print as it is: no markup in names, no line broken where the output is no terminal."""
    Console(markup=False, highlight=False).print(what, soft_wrap=True)
