"""What each rule does, case by case; test_plain_oracle.py has all of them at once."""

from __future__ import annotations

import pytest

from quarterturn.worker.messages.parts import PartData
from quarterturn.worker.messages.settled import Settled
from quarterturn.worker.parts import grouping
from quarterturn.worker.parts.grouping import Grouping
from quarterturn.worker.parts.seen import Seen
from tests.worker.parts.frames import SETTINGS, SIDE, TOP, items, seen


def made(frames: list[Seen], silence: bool = True) -> list[tuple[str, str, str, list[str]]]:
    """Part, state, verdict and missing cameras of each result, in order."""
    groups = Grouping(SETTINGS, {0: Settled(0)})
    parts = [part for item in items(frames) for part in groups.take(item, 0.0)[0]]
    parts += groups.silence(100.0) if silence else []
    return [told(part) for part in parts]


def told(part: PartData) -> tuple[str, str, str, list[str]]:
    return part.part_id, part.state, part.verdict, part.missing


WHOLE = [seen("a", TOP, 0), seen("a", SIDE, 1)]


@pytest.mark.parametrize("frames", [WHOLE, WHOLE[::-1], [WHOLE[0], seen("b", TOP, 2), WHOLE[1]]])
def test_a_part_is_complete_with_the_last_of_its_cameras_in_whatever_order(frames: list[Seen]) -> None:
    assert made(frames, silence=False) == [("a", "complete", "good", [])]


def test_a_part_times_out_with_the_first_frame_beyond_its_window() -> None:
    frames = [seen("a", TOP, 0), seen("b", TOP, 5), seen("c", TOP, 5.1)]
    assert made(frames[:2], silence=False) == []
    assert made(frames, silence=False) == [("a", "timed_out", "not_inspected", [SIDE])]
    assert made([*frames, seen("a", SIDE, 5.2)])[-1] == ("a", "timed_out", "not_inspected", [TOP]), "too late for it"


def test_a_part_times_out_in_silence_by_our_clock() -> None:
    groups = Grouping(SETTINGS, {0: Settled(0)})
    first, second = items([seen("a", TOP, 0), seen("b", TOP, 0)])
    assert groups.take(first, 1000.0) == ([], None)
    assert groups.take(second, 1003.0) == ([], None)
    assert groups.silence(1005.0) == []
    assert [told(part) for part in groups.silence(1005.1)] == [("a", "timed_out", "not_inspected", [SIDE])]
    assert groups.settled() == {0: Settled(1, "")}, "what is over is not read again"
    assert [part.part_id for part in groups.silence(1008.1)] == ["b"]
    assert groups.settled() == {0: Settled(2, "")}


def test_a_reused_id_is_another_part() -> None:
    again = [seen("a", TOP, 60), seen("a", SIDE, 61)]
    assert made([*WHOLE, *again]) == 2 * [("a", "complete", "good", [])]
    soon = [seen("a", TOP, 2), seen("a", SIDE, 3)]
    assert made([*WHOLE, *soon]) == 2 * [("a", "complete", "good", [])], "also at once"
    assert made([WHOLE[0], *again]) == [("a", "timed_out", "not_inspected", [SIDE]), ("a", "complete", "good", [])]
    older = [seen("a", TOP, -60), seen("a", SIDE, -61)]
    assert made([WHOLE[0], *older]) == [("a", "timed_out", "not_inspected", [SIDE]), ("a", "complete", "good", [])]


def test_simulated_parts_are_others_than_real_ones() -> None:
    trial = seen("a", SIDE, 1, "frames:1:0", alert="defect", ratio=2, simulated=True)
    assert made([WHOLE[0], trial, WHOLE[1]]) == [
        ("a", "complete", "good", []),
        ("a", "timed_out", "bad", [TOP]),
    ]


def test_the_cameras_are_those_of_the_product() -> None:
    assert made([seen("a", TOP, product="bracket")], silence=False) == [("a", "complete", "good", [])]


def test_a_frame_that_comes_again_counts_once() -> None:
    groups = Grouping(SETTINGS, {0: Settled(0)})
    log = items([WHOLE[0], WHOLE[0], WHOLE[1], WHOLE[1], WHOLE[0]])
    taken = [groups.take(item, 0.0) for item in log]
    assert [why for _, why in taken] == [None, "repeated", None, "repeated", "repeated"]
    (part,) = [part for parts, _ in taken for part in parts]
    assert part.frames == {SIDE: ["a/side-01/1"], TOP: ["a/top-01/0"]}


def test_several_frames_of_a_camera_are_one_part_and_the_worst_counts() -> None:
    frames = [seen("a", TOP, 0), seen("a", TOP, 0.5, alert="defect", ratio=3), seen("a", SIDE, 1)]
    assert made(frames) == [("a", "complete", "bad", [])]


def test_a_camera_that_gives_all_its_frames_one_id_makes_no_endless_result() -> None:
    frames = [seen("unknown", TOP, 0, f"frames:0:{n}") for n in range(2500)]
    groups = Grouping(SETTINGS, {0: Settled(0)})
    parts = [part for item in items(frames) for part in groups.take(item, 0.0)[0]]
    assert [len(part.frames[TOP]) for part in parts] == [1000, 1000]
    assert {part.verdict for part in parts} == {"not_inspected"}


@pytest.mark.parametrize("step_s", [0.0, 1e-6], ids=["the clock stands still", "a flood"])
def test_parts_that_never_complete_take_bounded_memory_and_none_is_lost(step_s: float) -> None:
    """Whatever their ids are; what is remembered of a partition fits beside its position (4096 bytes)."""
    groups = Grouping(SETTINGS, {0: Settled(0)})
    count, ids = 30_000, []
    for item in items([seen(f"{n}", TOP, n * step_s, f"frames:0:{n}") for n in range(count)]):
        ids += [part.part_id for part in groups.take(item, 0.0)[0]]
        assert groups.open <= grouping.SPAN
    (settled,) = groups.settled().values()
    assert settled.position >= count - grouping.SPAN
    assert len(settled.done) < 4000
    ids += [part.part_id for part in groups.silence(100.0)]
    assert ids == [f"{n}" for n in range(count)]


def test_marks_of_all_that_is_remembered_fit_beside_a_position() -> None:
    groups = Grouping(SETTINGS, {0: Settled(0)})
    frames = [
        seen(f"{n}", camera, 0, f"{camera}:{n}")
        for n in range(15_000)
        for camera in ((TOP, SIDE) if n % 2 else (TOP,))  # every other one completes
    ]
    for item in items(frames):
        groups.take(item, 0.0)
    assert 3000 < len(groups.settled()[0].done) < 4000
