"""Points in time as they are written everywhere: ISO 8601 in UTC, with milliseconds and a Z."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

_TIME = re.compile(
    r"""(?P<year>\d{4}) (?P<dash>-?) (?P<month>\d\d) (?P=dash) (?P<day>\d\d)
        [T\ ]
        (?P<hour>\d\d) (?P<colon>:?) (?P<minute>\d\d) (?: (?P=colon) (?P<second>\d\d) (?: [.,] (?P<fraction>\d+) )? )?
        (?: Z | (?P<sign>[-+\N{MINUS SIGN}]) (?P<hours>\d\d) (?: :? (?P<minutes>\d\d) (?: :? (?P<seconds>\d\d) )? )? )?
        (?: \[ [^]]* \] )?  # Java's name of the zone, beside its offset
    """,
    re.VERBOSE | re.ASCII | re.IGNORECASE,
)
_FIELDS = ("year", "month", "day", "hour", "minute", "second")


def now() -> str:
    """The present."""
    return _written(datetime.now(timezone.utc))


def timestamp(seconds: float) -> str:
    """So many seconds after the beginning of 1970."""
    return _written(datetime.fromtimestamp(seconds, timezone.utc))


def parse_time(text: str) -> datetime:
    """What `now` writes, and .NET, Java, Go and others: RFC 3339, and ISO 8601 with a date and a time of day.

    Without a zone it is UTC. Digits beyond microseconds are cut off; a leap second is the first second of the next
    minute, as clocks that know none have it.

    Raises:
        ValueError: it is no such time.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no time in ISO 8601")
    year, month, day, hour, minute, second = (int(found[name] or 0) for name in _FIELDS)
    if second > 60:
        raise ValueError(f"{text[:40]!r} has {second} seconds in a minute")
    microsecond = int((found["fraction"] or "")[:6].ljust(6, "0"))
    try:
        begun = datetime(year, month, day, hour, minute, tzinfo=_zone(found))
        return begun + timedelta(seconds=second, microseconds=microsecond)
    except OverflowError:
        raise ValueError(f"{text[:40]!r} is beyond the year 9999") from None


def _zone(found: re.Match[str]) -> timezone:
    hours, minutes, seconds = (int(found[name] or 0) for name in ("hours", "minutes", "seconds"))
    if minutes > 59 or seconds > 59:
        raise ValueError(f"{found[0][:40]!r} has a zone that is no time of day")
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return timezone(offset if found["sign"] == "+" else -offset)  # Raises: ValueError, of a day or more


def _written(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
