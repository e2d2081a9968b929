from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.events import AlertKind, DeadLetter, Held, Late, Outcome, Verdict
from quarterturn.worker.runtime.health import Health
from quarterturn.worker.transport.base import Standing
from quarterturn.worker.transport.memory import MemoryTransport
from tests import examples
from tests.parts import NumpyEngine

OUTCOMES = {"good", "late", "dead_letter", *get_args(AlertKind)}
REASONS = {"empty", "truncated", "undecodable", "bad_header", "unknown_product"}


def sample(health: Health, name: str, **labels: str) -> float | None:
    return health.registry.get_sample_value(name, labels)


def samples(health: Health, name: str) -> dict[tuple[str, ...], float]:
    """The values of all children, by their labels' values in order of the labels' names."""
    return {
        tuple(value for _, value in sorted(one.labels.items())): one.value
        for metric in health.registry.collect()
        for one in metric.samples
        if one.name == name
    }


def count(health: Health, *outcomes: Outcome) -> None:
    health.count(outcomes, since_poll_s=0.3, deliver_s=0.003)


def verdict(camera: str = "top-01", captured_at: str | None = None, **changes: object) -> Verdict:
    made = examples.verdict(examples.frame())
    frame = made.data.frame.model_copy(update={"captured_at": captured_at})
    return Verdict(made.position, made.key, made.data.model_copy(update={"camera": camera, "frame": frame, **changes}))


def test_counters_are_there_from_the_start() -> None:
    health = Health(["top-01", "side-01"])
    frames = samples(health, "quarterturn_frames_total")
    assert {(camera, outcome) for camera in ("top-01", "side-01") for outcome in OUTCOMES} <= set(frames)
    reasons = samples(health, "quarterturn_dead_letters_total")
    assert {(reason,) for reason in REASONS} <= set(reasons)
    notices = samples(health, "quarterturn_notices_total")
    assert {("top-01", "unlisted_camera"), ("side-01", "unlisted_camera")} <= set(notices)
    held, alarms = samples(health, "quarterturn_alerts_held_total"), samples(health, "quarterturn_alarms_total")
    assert {("side-01", why) for why in get_args(Held)} <= set(held)
    assert {("top-01", "episode", state) for state in ("raised", "grown", "cleared")} <= set(alarms)
    for name in ("rewinds_total", "bank_swaps_total", "latency_seconds_count", "capture_latency_seconds_count"):
        assert sample(health, f"quarterturn_{name}") == 0
    for stage in ("decode", "embed", "score", "deliver"):
        assert sample(health, "quarterturn_stage_seconds_count", stage=stage) == 0
    assert sample(health, "quarterturn_score_over_threshold_count", camera="side-01") == 0
    assert sample(health, "quarterturn_last_frame_timestamp_seconds", camera="side-01") == 0
    assert {*frames.values(), *reasons.values(), *notices.values(), *held.values(), *alarms.values()} == {0}


def test_a_camera_that_is_not_listed_has_all_its_counters_with_its_first_frame() -> None:
    health = Health()
    count(health, verdict("new"))
    counted = {
        labels: value for labels, value in samples(health, "quarterturn_frames_total").items() if "new" in labels
    }
    assert counted == {("new", outcome): float(outcome == "good") for outcome in OUTCOMES}


@pytest.mark.parametrize(
    ("outcome", "name"),
    [
        (verdict(), "good"),
        (verdict(alert="defect"), "defect"),
        (verdict(alert="wrong_product"), "wrong_product"),
        (verdict(alert="wrong_orientation"), "wrong_orientation"),
        (examples.late(examples.frame()), "late"),
        (examples.dead_letter(examples.frame()), "dead_letter"),
    ],
)
def test_each_outcome_is_counted_as_what_it_is(outcome: Verdict | Late | DeadLetter, name: str) -> None:
    health = Health(["top-01"])
    before_s = time.time()
    count(health, outcome, outcome)
    frames = {labels: value for labels, value in samples(health, "quarterturn_frames_total").items() if value}
    assert frames == {("top-01", name): 2}
    letters = {labels: value for labels, value in samples(health, "quarterturn_dead_letters_total").items() if value}
    assert letters == ({("truncated",): 2} if name == "dead_letter" else {})
    seen = sample(health, "quarterturn_last_frame_timestamp_seconds", camera="top-01")
    assert seen is not None
    assert before_s <= seen <= time.time()


@pytest.mark.parametrize("why", get_args(Held))
def test_a_held_alert_is_counted_as_such_and_as_what_it_is(why: Held) -> None:
    health = Health(["top-01"])
    count(health, replace(verdict(alert="defect"), held=why), verdict(alert="defect"))
    assert sample(health, "quarterturn_frames_total", camera="top-01", outcome="defect") == 2
    held = {labels: value for labels, value in samples(health, "quarterturn_alerts_held_total").items() if value}
    assert held == {("top-01", why): 1}


def test_alarms_are_counted_by_what_they_say() -> None:
    health = Health(["top-01"])
    count(health, *[examples.with_episode(verdict(alert="defect"), state) for state in ("raised", "grown", "grown")])
    alarms = {labels: value for labels, value in samples(health, "quarterturn_alarms_total").items() if value}
    assert alarms == {("top-01", "episode", "raised"): 1, ("top-01", "episode", "grown"): 2}


def test_what_drifts_is_shown_while_it_does() -> None:
    health, camera = Health(["top-01"]), "top-01"
    assert {value for _, value in samples(health, "quarterturn_drifting").items()} == {0}
    count(health, examples.with_drift(verdict(), "raised"))
    assert sample(health, "quarterturn_drifting", camera=camera, measure="brightness") == 1
    assert sample(health, "quarterturn_drifting", camera=camera, measure="sharpness") == 0
    assert sample(health, "quarterturn_alarms_total", camera=camera, event="drift", state="raised") == 1
    count(health, examples.with_drift(verdict(), "cleared"))
    assert sample(health, "quarterturn_drifting", camera=camera, measure="brightness") == 0


def test_a_reason_that_is_not_ours_is_counted_too() -> None:
    health = Health()
    count(health, examples.dead_letter(examples.frame(), "of_an_own_inspector"))
    assert sample(health, "quarterturn_dead_letters_total", reason="of_an_own_inspector") == 1


NUMBERS = st.just(0.0) | st.floats(1e-9, 1e30)


@given(NUMBERS, NUMBERS)
def test_scores_in_thresholds(score: float, threshold: float) -> None:
    health = Health()
    count(health, verdict(score=score, threshold=threshold))
    within = sample(health, "quarterturn_score_over_threshold_bucket", camera="top-01", le="1.0")
    total = sample(health, "quarterturn_score_over_threshold_sum", camera="top-01")
    assert sample(health, "quarterturn_score_over_threshold_count", camera="top-01") == 1
    assert total is not None
    assert math.isfinite(total)
    if abs(score - threshold) > 1e-9 * threshold:  # else rounding decides
        assert within == float(score <= threshold)


def ago(seconds: float) -> str:
    return (datetime.now(timezone.utc) - timedelta(seconds=seconds)).isoformat()


@pytest.mark.parametrize(
    ("seconds", "simulated", "counted"),
    [(2, False, True), (None, False, False), (-60, False, False), (2, True, False)],
    ids=["two seconds ago", "no time", "in the future", "a replay"],
)
def test_latency_from_the_capture(seconds: float | None, simulated: bool, counted: bool) -> None:
    health = Health()
    count(health, verdict(captured_at=None if seconds is None else ago(seconds), is_simulated=simulated))
    assert sample(health, "quarterturn_capture_latency_seconds_count") == int(counted)
    total = sample(health, "quarterturn_capture_latency_seconds_sum")
    assert total is not None
    assert (2 <= total < 30) if counted else total == 0


def test_times_of_a_batch_and_of_its_frames() -> None:
    health = Health()
    count(health, examples.dead_letter(examples.frame()), *[examples.verdict(examples.frame(n)) for n in range(3)])
    seconds = {"decode": 0.001, "embed": 0.002, "score": 0.0005, "deliver": 0.003}  # the example's, and `count`'s
    for stage, expected in seconds.items():
        assert sample(health, "quarterturn_stage_seconds_count", stage=stage) == 1
        assert sample(health, "quarterturn_stage_seconds_sum", stage=stage) == pytest.approx(expected)
    assert sample(health, "quarterturn_latency_seconds_count") == 4
    assert sample(health, "quarterturn_latency_seconds_sum") == pytest.approx(1.2)
    assert sample(health, "quarterturn_batch_frames_sum") == 4


def test_partitions_come_and_go_with_their_lag() -> None:
    class Shared(MemoryTransport):
        standing = Standing("Kafka", "ok", 2, {"frames[0]": 5, "frames[3]": 0})

    health, transport = Health(), Shared([])
    lag = lambda: samples(health, "quarterturn_lag_frames")  # noqa: E731
    with (
        closing(Inspector(NumpyEngine(), "line-1", overkill=0.05)) as inspector,
        health.working(transport, inspector),
    ):
        assert lag() == {("frames[0]",): 5, ("frames[3]",): 0}
        assert sample(health, "quarterturn_assigned_partitions") == 2
        transport.standing = Standing("Kafka", "ok", 1, {"frames[3]": 1})
        assert lag() == {("frames[3]",): 1}
        assert sample(health, "quarterturn_assigned_partitions") == 1
        transport.standing = Standing("Kafka", "waiting", None)
        assert sample(health, "quarterturn_assigned_partitions") == 0
        assert sample(health, "quarterturn_degraded", part="Kafka") == 1
    assert lag() == {}


def test_what_runs_and_what_serves() -> None:
    health = Health()
    health.metrics.runs("openvino")
    health.metrics.serves("b" * 64, "e" * 64)
    ((build, value),) = samples(health, "quarterturn_build_info").items()
    assert value == 1
    assert "openvino" in build
    assert samples(health, "quarterturn_bank_info") == {("e" * 64, "b" * 64): 1}
    assert sample(health, "quarterturn_bank_swaps_total") == 1
    assert (sample(health, "process_resident_memory_bytes") or 0) > 1e6
