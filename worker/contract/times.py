"""Points in time as they are written everywhere: ISO 8601 in UTC, with milliseconds and a Z."""

from __future__ import annotations

from datetime import datetime, timezone


def now() -> str:
    """The present."""
    return _written(datetime.now(timezone.utc))


def timestamp(seconds: float) -> str:
    """So many seconds after the beginning of 1970."""
    return _written(datetime.fromtimestamp(seconds, timezone.utc))


def parse_time(text: str) -> datetime:
    """What `now` and others write; without a zone it is UTC.

    Raises:
        ValueError: it is no time in ISO 8601.
    """
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _written(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
