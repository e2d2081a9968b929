"""What the console refuses, in the reader's language: the words are the page's own, in static/words.json."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from quarterturn.worker.console.rows import words_of
from quarterturn.worker.contract.errors import DataError, FrameError, GoneError, UnavailableError

STATIC = Path(__file__).with_name("static")


class ConsoleError(DataError):
    """A refusal whose words are `fault.<code>`; its text is English, and `values` are what the words leave open.

    Example:
        >>> str(ConsoleError("outside", width=640, height=480))
        'the region is not inside the picture of 640 × 480 pixels; draw it again'
    """

    def __init__(self, code: str, **values: str | int) -> None:
        self.code, self.values = f"fault.{code}", values
        super().__init__(_english()[self.code].format(**values))


class BusyError(ConsoleError, UnavailableError):
    """More is asked for than can be made now."""


def in_json(error: Exception) -> dict[str, Any]:
    """An error for the page: its English text, and `code` and `values` for the reader's own words, where there are any.

    Words that only say which kind of fault it is may leave the English text open, as {text}.
    """
    if isinstance(error, FrameError):
        return {"error": str(error), **words_of(f"reason.{error.reason}", str(error))}
    code, values = "", {}
    if isinstance(error, ConsoleError):
        code, values = error.code, error.values
    elif isinstance(error, GoneError | UnavailableError):
        code = "fault.gone" if isinstance(error, GoneError) else "fault.unavailable"
    return {"error": str(error), "code": code, "values": values}


@cache
def _english() -> dict[str, str]:
    return dict(json.loads((STATIC / "words.json").read_text(encoding="utf-8"))["en"])
