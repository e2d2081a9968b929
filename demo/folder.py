"""The folder of a demo: what it makes lies there, and is made anew by the next one."""

from __future__ import annotations

from pathlib import Path

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.swap import unwritable

_MARK = ".quarterturn-demo"


def claim(out: Path) -> None:
    """Make `out` a demo's folder, if it is none: what a user keeps there would be overwritten.

    Raises:
        DataError: it holds something, and is no demo's; or it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not (out / _MARK).exists():
            raise DataError(f"{out}: holds something besides a demo, which would be lost; choose another --out")
        (out / _MARK).write_text("quarterturn demo overwrites what lies here\n", encoding="utf-8")
    except OSError as error:
        raise unwritable(out, "--out", error) from error
