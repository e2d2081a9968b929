from __future__ import annotations

from datetime import datetime, tzinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.picture import RawFormat
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
        ({"width": b"6_40", "height": b"1", "pixel_format": b"Mono8"}, "width and height must be whole numbers"),
        ({"width": "\u0664".encode(), "height": b"1", "pixel_format": b"Mono8"}, "must be whole numbers"),
        ({"simulated": b"perhaps"}, "header 'simulated' is 'perhaps', which is neither true nor false"),
    ],
)
def test_a_bad_header_is_named(headers: dict[str, bytes], message: str) -> None:
    with pytest.raises(FrameError, match=message) as caught:
        with_headers(**headers).info()
    assert caught.value.reason == "bad_header"


@repeatable
@given(st.dictionaries(st.sampled_from(KNOWN_HEADERS), values), st.none() | st.binary(max_size=20))
def test_what_can_be_read_is_what_the_whole_says(headers: dict[str, bytes], key: bytes | None) -> None:
    """Each header for itself: with another one's fault taken away, `info` says the same of it."""
    frame = Frame(Position("frames", 0, 0), key, headers, b"")
    legible = frame.legible()
    for name, said in (
        ("product", legible.product),
        ("part_id", legible.part_id),
        ("captured_at", legible.captured_at),
        ("simulated", legible.simulated),
    ):
        alone = {"camera": b"top-01", **({name: headers[name]} if name in headers else {})}
        try:
            expected = getattr(Frame(Position("frames", 0, 0), b"key", alone, b"").info(), name)
        except FrameError:
            expected = False if name == "simulated" else None
        assert said == expected
    camera = {"camera": headers["camera"]} if "camera" in headers else {}
    try:
        assert legible.camera == Frame(Position("frames", 0, 0), key, camera, b"").info().camera
    except FrameError:
        assert legible.camera is None


GOOD_HEADERS = {
    "camera": b"top-01",
    "product": b"ring",
    "part_id": b"SN-1",
    "captured_at": b"2026-01-02T03:04:05Z",
    "simulated": b"true",
}


@pytest.mark.parametrize(
    "bad",
    [
        {"camera": b"\xff"},
        {"product": b"a\nb"},
        {"product": b"x" * 2000},
        {"part_id": b"\xff"},
        {"captured_at": b"yesterday"},
        {"simulated": b"perhaps"},
        {"width": b"640"},
        {"caf\x1a": b"1"},
    ],
)
def test_a_bad_header_hides_no_other(bad: dict[str, bytes]) -> None:
    frame = Frame(Position("frames", 0, 0), b"from-key", {**GOOD_HEADERS, **bad}, b"")
    with pytest.raises(FrameError):
        frame.info()
    legible = frame.legible()
    found = {name: getattr(legible, name) for name in GOOD_HEADERS if name not in bad}
    whole = Frame(Position("frames", 0, 0), b"from-key", GOOD_HEADERS, b"").info()
    assert found == {name: getattr(whole, name) for name in GOOD_HEADERS if name not in bad}
    assert all(getattr(legible, name) in (None, False) for name in bad if name in GOOD_HEADERS)


def test_what_the_transport_found_is_said_first() -> None:
    fault = FrameError("corrupt_record", "its checksum is wrong")
    frame = Frame(Position("frames", 0, 0), b"from-key", {}, b"", fault)
    with pytest.raises(FrameError, match="its checksum is wrong"):
        frame.info()
    assert frame.legible().camera == "from-key"


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("True", True), ("TRUE", True), ("1", True)])
def test_a_replay_is_one_however_it_is_written(text: str, expected: bool) -> None:
    assert with_headers(simulated=text.encode()).info().simulated is expected


@pytest.mark.parametrize("text", ["false", "False", "0", "no", ""])
def test_what_is_no_replay_is_none_however_it_is_written(text: str) -> None:
    assert with_headers(simulated=text.encode()).info().simulated is False


@pytest.mark.parametrize("camera", [b"", b" ", b"\t "])
def test_a_camera_without_a_name_is_none(camera: bytes) -> None:
    with pytest.raises(FrameError, match="neither a header 'camera' nor a record key names the camera"):
        Frame(Position("frames", 0, 0), None, {"camera": camera}, b"").info()


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
