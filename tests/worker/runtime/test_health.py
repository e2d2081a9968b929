from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from quarterturn.worker.messages.events import Outcome, Verdict
from quarterturn.worker.runtime.health import Health
from tests import examples


def sample(health: Health, name: str, **labels: str) -> float | None:
    return health.registry.get_sample_value(name, labels)


def of(camera: str, outcome: Outcome | None = None) -> Outcome:
    made = outcome or examples.verdict(examples.frame())
    return type(made)(made.position, made.key, made.data.model_copy(update={"camera": camera}))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [examples.verdict, examples.late, examples.dead_letter])
def test_a_camera_that_the_settings_do_not_list_is_said_once_and_counted(
    kind: type[Verdict], caplog: pytest.LogCaptureFixture
) -> None:
    health = Health(["top-01", "top-02"])
    frame = examples.frame()
    for _ in range(3):
        health.count([of("top-01", kind(frame)), of("top-1", kind(frame)), of("side", kind(frame))], 0.1, 0.01)
    said = [record.message for record in caplog.records if "unlisted_camera" in record.message]
    assert [line.partition(":")[0] for line in said] == ["cam=top-1", "cam=side"]
    assert "frames[0]@0" in said[0]
    for camera, count in (("top-1", 3), ("side", 3), ("top-01", 0)):
        assert sample(health, "quarterturn_notices_total", camera=camera, kind="unlisted_camera") == count


def test_where_no_camera_is_listed_none_is_odd(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    health.count([of("top-1")], 0.1, 0.01)
    assert caplog.records == []
    assert sample(health, "quarterturn_notices_total", camera="top-1", kind="unlisted_camera") == 0


def test_a_frame_that_does_not_say_its_camera_is_no_unlisted_one() -> None:
    health = Health(["top-01"])
    letter = examples.dead_letter(examples.frame())
    health.count([type(letter)(letter.position, None, letter.data.model_copy(update={"camera": None}))], 0.1, 0.01)
    assert sample(health, "quarterturn_notices_total", camera="unknown", kind="unlisted_camera") == 0
    assert sample(health, "quarterturn_frames_total", camera="unknown", outcome="dead_letter") == 1


def test_a_drift_is_said_each_time_with_its_place(caplog: pytest.LogCaptureFixture) -> None:
    health = Health(["top-01"])
    for _ in range(2):
        health.count([examples.with_drift(examples.verdict(examples.frame(7)), "raised")], 0.1, 0.01)
    assert [record.message for record in caplog.records] == [
        "frames[0]@7 cam=top-01: drift raised: pictures are darker: brightness 112, usually 120"
    ] * 2


def test_made_up_names_fill_neither_memory_nor_log(caplog: pytest.LogCaptureFixture) -> None:
    health = Health(["top-01"])
    for n in range(1200):
        health.count([of(f"made up {n}")], 0.1, 0.01)
    assert len(caplog.records) == 1000
    health.count([of("top-01")], 0.1, 0.01)  # who is listed keeps its own place
    assert sample(health, "quarterturn_frames_total", camera="top-01", outcome="good") == 1
    assert sample(health, "quarterturn_notices_total", camera="other", kind="unlisted_camera") == 200


def test_notices_come_from_any_thread(caplog: pytest.LogCaptureFixture) -> None:
    health = Health(["top-01"])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: health.notice("unlisted_camera", "side", "odd"), range(400)))
    assert len(caplog.records) == 1
    assert sample(health, "quarterturn_notices_total", camera="side", kind="unlisted_camera") == 400


def test_each_dead_letter_is_said_with_its_place_and_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Health().count([examples.dead_letter(examples.frame(7, 2))], 0.1, 0.01)
    assert [record.message for record in caplog.records] == [
        "frames[2]@7 cam=top-01: truncated: the picture ends early"
    ]
