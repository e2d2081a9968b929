from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterturn.worker.contract.times import now, parse_time, timestamp


def test_the_present_is_utc_with_milliseconds() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", now())
    assert abs(datetime.now(timezone.utc) - parse_time(now())) < timedelta(seconds=5)


@given(st.integers(0, 4_000_000_000_000))
def test_what_is_written_is_read(milliseconds: int) -> None:
    found = parse_time(timestamp(milliseconds / 1000))
    assert abs(found.timestamp() - milliseconds / 1000) < 0.0011


def test_a_time_without_a_zone_is_utc() -> None:
    assert (
        parse_time("2026-01-01T12:00:00")
        == parse_time("2026-01-01T12:00:00Z")
        == parse_time("2026-01-01T13:00:00+01:00")
    )


BEGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("2026-01-02T03:04:05.1234567Z", 123456),  # .NET, "o"
        ("2026-01-02T04:04:05.1234567+01:00", 123456),
        ("2026-01-02 03:04:05Z", 0),  # .NET, "u"
        ("2026-01-02T03:04:05", 0),  # .NET, "s"
        ("2026-01-02T03:04:05.123456789Z", 123456),  # Java's Instant, Go's RFC3339Nano
        ("2026-01-02T03:04:05.12Z", 120000),
        ("2026-01-02T03:04:05.1-00:00", 100000),  # RFC 3339: the local offset is unknown
        ("2026-01-02T04:04:05+01:00[Europe/Paris]", 0),  # Java's ZonedDateTime
        ("2026-01-02T03:04:05Z[UTC]", 0),
        ("2026-01-02T04:04:05.500+0100", 500000),  # Java's SimpleDateFormat, C's strftime
        ("2026-01-02T04:04:05+01", 0),  # Java's "X"
        ("2026-01-02T08:34:05+05:30", 0),
        ("2026-01-01T19:04:05-08:00", 0),
        ("2026-01-01T19:04:05\u221208:00", 0),  # ISO 8601 itself wants a real minus sign
        ("2026-01-02T03:14:35+00:10:30", 0),
        ("2026-01-02T03:04:05,5Z", 500000),  # ISO 8601 likes the comma better
        ("2026-01-02t03:04:05.000001z", 1),  # RFC 3339 allows small letters
        ("20260102T030405Z", 0),
        ("20260102T030405.25+0000", 250000),
        ("2026-01-02T03:04:05.000000Z", 0),  # Python
    ],
)
def test_times_as_others_write_them(text: str, microseconds: int) -> None:
    assert parse_time(text) == BEGIN + timedelta(microseconds=microseconds)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04Z", (2026, 1, 2, 3, 4, 0)),  # Java leaves out seconds that are 0
        ("2026-01-02T03:04+01:00", (2026, 1, 2, 2, 4, 0)),
        ("2016-12-31T23:59:60Z", (2017, 1, 1, 0, 0, 0)),  # a leap second
        ("2017-01-01T00:59:60+01:00", (2017, 1, 1, 0, 0, 0)),
        ("0001-01-01T00:00:00Z", (1, 1, 1, 0, 0, 0)),
        ("9999-12-31T23:59:59Z", (9999, 12, 31, 23, 59, 59)),
        ("2024-02-29T00:00:00Z", (2024, 2, 29, 0, 0, 0)),
    ],
)
def test_times_at_the_edges(text: str, expected: tuple[int, ...]) -> None:
    assert parse_time(text) == datetime(*expected[:3], *expected[3:], tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "text",
    [
        "noon",
        "",
        "2026-01-02",  # of no time of day
        "1767323045",
        "2026-01-02T03",
        "2026-13-02T03:04:05Z",
        "2026-02-29T03:04:05Z",
        "2026-01-02T24:04:05Z",
        "2026-01-02T03:60:05Z",
        "2026-01-02T03:04:61Z",
        "9999-12-31T23:59:60Z",
        "2026-01-02T03:04:05+24:00",
        "2026-01-02T03:04:05+01:60",
        "2026-01-02T03:04:05Z+01:00",
        "2026-01-02T03:04:05 Z",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05Z\n",
        "2026-0102T03:04:05Z",
        "2026-01-02T03:0405Z",
        "02/01/2026 03:04:05",
        "\u0662\u0660\u0662\u0666-01-02T03:04:05Z",  # digits, and none of ISO 8601
        "10000-01-01T00:00:00Z",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_time(text)


DAYS = {1: 31, 2: 28, 3: 31, 4: 30, 5: 31, 6: 30, 7: 31, 8: 31, 9: 30, 10: 31, 11: 30, 12: 31}


def nanoseconds(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
    """Since the beginning of 1970, counted by hand."""
    leap = [year for year in range(1970, year + 1) if year % 4 == 0 and (year % 100 or year % 400 == 0)]
    days = 365 * (year - 1970) + len([one for one in leap if one < year])
    days += sum(DAYS[one] for one in range(1, month)) + (month > 2 and year in leap) + day - 1
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 10**9


@given(
    date=st.tuples(st.integers(1970, 2200), st.integers(1, 12), st.integers(1, 28)),
    clock=st.tuples(st.integers(0, 23), st.integers(0, 59), st.integers(0, 60)),
    fraction=st.text("0123456789", max_size=12),
    point=st.sampled_from(".,"),
    offset=st.integers(-23 * 60 - 59, 23 * 60 + 59),
    form=st.sampled_from(["{:02}:{:02}", "{:02}{:02}"]),
    letters=st.sampled_from("Tt "),
)
def test_any_time_is_read_to_the_microsecond(
    *,
    date: tuple[int, int, int],
    clock: tuple[int, int, int],
    fraction: str,
    point: str,
    offset: int,
    form: str,
    letters: str,
) -> None:
    zone = ("-" if offset < 0 else "+") + form.format(*divmod(abs(offset), 60))
    digits = point + fraction if fraction else ""
    text = "{:04}-{:02}-{:02}".format(*date) + letters + "{:02}:{:02}:{:02}".format(*clock) + digits + zone
    expected = nanoseconds(*date, *clock) - offset * 60 * 10**9 + int(fraction[:6].ljust(6, "0")) * 1000
    found = parse_time(text) - datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert (found.days * 86400 + found.seconds) * 10**9 + found.microseconds * 1000 == expected


@given(st.text() | st.text("0123456789-:TZ+.,[] ", max_size=40))
def test_any_text_is_a_time_or_is_refused(text: str) -> None:
    try:
        found = parse_time(text)
    except ValueError:
        return
    assert found.tzinfo is not None
