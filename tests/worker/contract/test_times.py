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
    with pytest.raises(ValueError, match="noon"):
        parse_time("noon")
