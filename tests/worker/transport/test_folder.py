"""The folder alone: cameras, going on after a crash, files that are not ours."""

from __future__ import annotations

import json
import logging
import resource
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from quarterturn.worker.contract.errors import DataError, UnavailableError
from quarterturn.worker.settings.worker import FolderSettings
from quarterturn.worker.transport.folder import FolderTransport
from tests import examples

PICTURES = {"a/1.png": b"defect", "a/2.jpg": b"good", "b/1.png": b"broken", "b/2.png": b"defect"}


@pytest.fixture
def settings(tmp_path: Path) -> FolderSettings:
    for name, data in PICTURES.items():
        picture = tmp_path / "line" / name
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(data)
    return FolderSettings(path=tmp_path / "line", out=tmp_path / "results" / "out.jsonl")


def drain(settings: FolderSettings) -> None:
    """Inspect what is left."""
    with closing(FolderTransport(settings)) as transport:
        while not transport.exhausted:
            transport.deliver([examples.outcome(frame) for frame in transport.poll(2, 0)])


def events(settings: FolderSettings) -> list[tuple[str, str]]:
    """(kind, part_id or reason) of each line."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in settings.out.read_text().splitlines()]
    return [(line["kind"], line["data"].get("partId") or line["data"]["reason"]) for line in lines]


ALL = [
    ("alert", "a/1.png"),
    ("verdict", "a/1.png"),
    ("verdict", "a/2.jpg"),
    ("dead_letter", "truncated"),
    ("alert", "b/2.png"),
    ("verdict", "b/2.png"),
]


def test_writes_an_alert_before_the_verdict_that_ends_the_frame(settings: FolderSettings) -> None:
    drain(settings)

    assert events(settings) == ALL


@pytest.mark.parametrize("name", ["a/._1.png", "@eaDir/1.png", "a/.ipynb_checkpoints/1.png", "$RECYCLE.BIN/1.png"])
def test_what_systems_leave_is_no_frame(settings: FolderSettings, name: str) -> None:
    (settings.path / name).parent.mkdir(exist_ok=True)
    (settings.path / name).write_bytes(b"good")
    drain(settings)

    assert events(settings) == ALL


def test_each_line_is_a_cloud_event(settings: FolderSettings) -> None:
    drain(settings)

    for line in settings.out.read_bytes().splitlines():
        event = JSONFormat().read(CloudEvent, line)
        assert event.get_type() == f"quarterturn.{event.get_extension('kind')}.v1"
        assert event.get_id().startswith(f"{event.get_extension('kind')}:line:0:")
        assert event.get_data()["jobId"] == "line-3"


@pytest.mark.parametrize(
    ("folder", "named", "expected"),
    [("", None, ["a", "a", "b", "b"]), ("a", None, ["a", "a"]), ("", "top-01", ["top-01"] * 4)],
)
def test_the_camera_is_named_or_the_sub_folder(
    settings: FolderSettings, folder: str, named: str | None, expected: list[str]
) -> None:
    changed = settings.model_copy(update={"path": settings.path / folder, "camera": named})
    with closing(FolderTransport(changed)) as transport:
        assert [frame.info().camera for frame in transport.poll(10, 0)] == expected


def test_goes_on_after_a_crash_within_any_line(settings: FolderSettings) -> None:
    drain(settings)
    whole = settings.out.read_bytes()
    ends = [index for index, byte in enumerate(whole) if byte == ord("\n")]
    around = {end + step for end in (0, *ends) for step in range(-2, 13)}
    for length in sorted({length for length in around | set(range(0, len(whole), 101)) if 0 <= length <= len(whole)}):
        settings.out.write_bytes(whole[:length])
        drain(settings)
        assert events(settings) == ALL, f"cut after {length} bytes"


def test_a_full_disk_is_one_sentence_and_loses_nothing(settings: FolderSettings) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(UnavailableError, match=r"out\.jsonl: cannot be written \(File too large\); make room"):
            drain(settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert settings.out.stat().st_size == 1000
    drain(settings)
    assert events(settings) == ALL


@pytest.mark.parametrize("content", ["my notes, one line", "my notes\n", '{"kind": "verdict", "data": 3}\n', "[1]\n"])
def test_leaves_a_foreign_file_alone(settings: FolderSettings, content: str) -> None:
    settings.out.parent.mkdir()
    settings.out.write_text(content)
    with pytest.raises(DataError, match=r"out\.jsonl:1: is no result of quarterturn; choose another file for 'out'"):
        FolderTransport(settings)
    assert settings.out.read_text() == content


def test_refuses_results_of_other_pictures(settings: FolderSettings) -> None:
    drain(settings)
    (settings.path / "a" / "0.png").write_bytes(b"good")  # every picture behind it has another offset now
    with pytest.raises(DataError, match=r"out\.jsonl:1: belongs to other pictures than those of .*line; move the file"):
        FolderTransport(settings)


def test_a_picture_that_went_away_is_inspected_as_empty(
    settings: FolderSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(FolderTransport(settings)) as transport, caplog.at_level(logging.WARNING):
        (settings.path / "a" / "1.png").unlink()
        frames = transport.poll(2, 0)

    assert [frame.data for frame in frames] == [b"", b"good"]
    assert "a/1.png: cannot be read (No such file or directory)" in caplog.text


def test_an_unusable_path_is_one_sentence(settings: FolderSettings) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        FolderTransport(settings.model_copy(update={"path": settings.path / "nowhere"}))
    with pytest.raises(UnavailableError, match=r"cannot be written \(Is a directory\); make room or correct 'out'"):
        FolderTransport(settings.model_copy(update={"out": settings.path}))
