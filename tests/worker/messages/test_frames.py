from __future__ import annotations

from datetime import datetime, tzinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.raw_pixels import RawFormat
from quarterturn.worker.messages.frames import Frame, FrameInfo, Position

repeatable = settings(derandomize=True, deadline=None)

KNOWN_HEADERS = ("camera", "product", "part_id", "captured_at", "simulated", "width", "height", "pixel_format")
values = st.one_of(st.binary(max_size=30), st.text(max_size=30).map(str.encode), st.integers().map(lambda n: b"%d" % n))


@repeatable
@given(st.dictionaries(st.sampled_from(KNOWN_HEADERS), values), st.none() | st.binary(max_size=20))
def test_any_header_gives_the_frames_info_or_says_what_is_wrong(headers: dict[str, bytes], key: bytes | None) -> None:
    frame = Frame(Position("frames", 0, 0), key, headers, b"")
    try:
        info = frame.info()
    except FrameError:
        return
    assert isinstance(info, FrameInfo)
    assert info.camera


def with_headers(**headers: bytes) -> Frame:
    return Frame(Position("frames", 0, 0), b"from-key", headers, b"")


def test_reads_every_header() -> None:
    info = with_headers(
        camera="Prüfstand 1".encode(),
        product=b"ring",
        part_id=b"SN-1",
        captured_at=b"2026-01-02T03:04:05.678Z",
        simulated=b"true",
        width=b"640",
        height=b"480",
        pixel_format=b"Mono8",
        unknown=b"\xff",
    ).info()

    raw = RawFormat(640, 480, "Mono8")
    assert info == FrameInfo("Prüfstand 1", "ring", "SN-1", "2026-01-02T03:04:05.678Z", True, raw)
    assert with_headers().info() == FrameInfo("from-key", None, None, None, False, None)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"camera": b"\xff"}, "header 'camera' is not UTF-8 text; correct the camera's publisher"),
        ({"captured_at": b"yesterday"}, "header 'captured_at' is 'yesterday', which is no ISO 8601 time"),
        (
            {"width": b"640", "height": b"480"},
            "need the headers width, height and pixel_format; pixel_format is missing",
        ),
        ({"width": b"wide", "height": b"1", "pixel_format": b"Mono8"}, "width and height must be whole numbers"),
    ],
)
def test_a_bad_header_is_named(headers: dict[str, bytes], message: str) -> None:
    with pytest.raises(FrameError, match=message) as caught:
        with_headers(**headers).info()
    assert caught.value.reason == "bad_header"


@pytest.mark.parametrize("captured_at", ["2026-01-01T12:00:00Z", "2026-01-01T14:00:00+02:00", "2026-01-01T12:00:00"])
def test_the_age_of_a_frame(captured_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            return cls(2026, 1, 1, 12, 0, 1, 250_000, tzinfo=tz)

    monkeypatch.setattr("quarterturn.worker.messages.frames.datetime", Clock)
    assert with_headers(captured_at=captured_at.encode()).info().age_ms() == 1250
    assert with_headers(captured_at=b"9999-12-31T23:59:59Z").info().age_ms() == 0
    assert with_headers(captured_at=b"0001-01-01T00:00:00").info().age_ms() > 6e13


def test_the_age_of_a_frame_that_does_not_say_when() -> None:
    with pytest.raises(FrameError, match="header 'captured_at' is missing, and the camera has a max_age_ms; send it"):
        with_headers().info().age_ms()


def test_a_frame_of_nobody_is_named() -> None:
    with pytest.raises(FrameError, match="neither a header 'camera' nor a record key names the camera"):
        Frame(Position("frames", 0, 0), None, {}, b"").info()


def test_the_position_reads_as_in_the_logs() -> None:
    assert str(Position("frames", 2, 1841)) == "frames[2]@1841"
