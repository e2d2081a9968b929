"""The index: each result once, joined with what people said, within its bounds, and made anew where it is damaged."""

from __future__ import annotations

import itertools
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quarterturn.worker.console.alarms import alarm_of
from quarterturn.worker.console.index import Index
from quarterturn.worker.console.query import Filter, Page
from quarterturn.worker.console.rows import row_of
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.contract.times import now, timestamp
from quarterturn.worker.messages.events import events_of
from quarterturn.worker.messages.feedback import Feedback
from quarterturn.worker.messages.frames import Position
from tests.worker.console.pretend import Made, outcome_of

NEWEST = Page(limit=1000)
Open = Callable[..., Index]


@pytest.fixture
def open_index(tmp_path: Path) -> Iterator[Open]:
    opened: list[Index] = []

    def start(keep: int = 1000, keep_days: float = 14.0) -> Index:
        for index in opened:
            index.close()
        opened.append(Index(tmp_path, keep, keep_days))
        return opened[-1]

    yield start
    for index in opened:
        index.close()


def result(offset: int, kind: str | None = "defect", **made: Any) -> Any:
    (first, *_) = events_of(outcome_of(Made(kind, **made), Position("frames", 0, offset)))
    found = row_of(json.loads(first.value))
    assert found is not None
    return found


def drift(offset: int, state: str = "raised", at_s: float | None = None) -> Any:
    data = {
        "resultId": f"frames:0:{offset}",
        "creationTime": timestamp(time.time() if at_s is None else at_s),
        "camera": "top-01",
        "state": state,
        "measure": "brightness",
        "reason": "darker than usual",
        "frame": {},
    }
    found = alarm_of(data)
    assert found is not None
    return found


def said(offset: int, verdict: Any = "good", by: str = "anna", **more: Any) -> Feedback:
    return Feedback(result_id=f"frames:0:{offset}", verdict=verdict, by=by, at=now(), **more)


def ids(index: Index, **chosen: Any) -> list[str]:
    return [row["id"] for row in index.page(Filter(**chosen), NEWEST)]


def test_a_result_that_comes_again_is_there_once(open_index: Open) -> None:
    index = open_index()
    assert index.add([result(1), result(2)], {"verdicts::0": 5}) == 2
    seq = index.seq
    assert index.add([result(2), result(1)]) == 0
    assert (len(ids(index)), index.seq, index.places()) == (2, seq, {"verdicts::0": 5})


@pytest.mark.parametrize("feedback_first", [True, False])
def test_feedback_joins_its_result_whichever_comes_first(open_index: Open, feedback_first: bool) -> None:
    index = open_index()
    steps = [
        lambda: index.judge([said(1, "bad", region=Region(x=1, y=2, width=3, height=4))]),
        lambda: index.add([result(1)]),
    ]
    for step in steps if feedback_first else reversed(steps):
        step()
    row = index.get("frames:0:1")
    assert row is not None
    assert (row["verdict"], row["reviewed_by"]) == ("bad", "anna")
    assert json.loads(row["region"]) == {"x": 1, "y": 2, "width": 3, "height": 4}
    assert ids(index, review="open") == []
    assert ids(index, review="done") == ["frames:0:1"]


def test_the_last_word_counts_and_the_same_word_again_is_no_change(open_index: Open) -> None:
    index = open_index()
    index.add([result(1)])
    word = said(1)
    assert index.judge([word]) == 1
    assert index.judge([word]) == 0
    assert index.judge([said(1, "bad", by="bert")]) == 1
    row = index.get("frames:0:1")
    assert row is not None
    assert (row["verdict"], row["reviewed_by"]) == ("bad", "bert")


def test_a_page_hears_of_what_is_new_and_of_what_was_judged(open_index: Open) -> None:
    index = open_index()
    index.add([result(n) for n in range(3)])
    seen = index.seq
    index.judge([said(1)])
    index.add([result(7)])
    changed = index.page(Filter(review="open"), Page(since=seen))
    assert [row["id"] for row in changed] == ["frames:0:1", "frames:0:7"]


def test_filters(open_index: Open) -> None:
    index = open_index()
    kinds = ("defect", "wrong_product", "wrong_orientation", None)
    rows = dict(enumerate(itertools.product(kinds, ("cam", "bad'; --"), ("ring", "plate"), (0, 7200))))
    for n, (kind, camera, product, ago_s) in rows.items():
        index.add([result(n, kind, camera=camera, product=product, ago_s=ago_s)])

    def expect(is_so: Callable[..., bool]) -> set[str]:
        return {f"frames:0:{n}" for n, row in rows.items() if is_so(*row)}

    assert set(ids(index)) == expect(lambda *_: True)
    assert set(ids(index, lane="any")) == expect(lambda kind, *_: kind is not None)
    assert set(ids(index, lane="wrong")) == expect(lambda kind, *_: str(kind).startswith("wrong"))
    assert set(ids(index, camera="bad'; --", kind="defect")) == expect(
        lambda k, c, *_: (k, c) == ("defect", "bad'; --")
    )
    assert set(ids(index, product="plate")) == expect(lambda _, __, product, ___: product == "plate")
    assert set(ids(index, after=time.time() - 3600)) == expect(lambda *row: row[3] == 0)
    assert index.count(Filter(lane="defect", review="open")) == len(expect(lambda kind, *_: kind == "defect"))


def test_pages_follow_each_other_without_a_gap_though_times_are_alike(open_index: Open) -> None:
    index = open_index()
    rows = [result(n) for n in range(25)]
    for row, _ in rows:
        row["at"] = 1e9 + row["offset"] // 5
    index.add(rows)
    found: list[Any] = []
    while page := index.page(Filter(), Page(before=(found[-1]["at"], found[-1]["id"]) if found else None, limit=4)):
        found += page
    assert len({row["id"] for row in found}) == len(found) == 25
    assert [row["at"] for row in found] == sorted((row["at"] for row in found), reverse=True)


def test_it_keeps_to_its_bounds_lane_by_lane(open_index: Open) -> None:
    """Also where all times are alike. Good results come by the million and push no alert out."""
    index = open_index(keep=10)
    kinds = ("defect", "wrong_product", "unusable_picture", None, None, None)
    rows = [result(n, kinds[n % len(kinds)]) for n in range(3000)]
    for row, _ in rows:
        row["at"] = float(int(time.time()))
    index.add(rows)
    assert {lane: index.count(Filter(lane=lane)) for lane in ("defect", "wrong", "unusable")} == {
        "defect": 10,
        "wrong": 10,
        "unusable": 10,
    }
    assert index.count(Filter()) == 40
    assert len(index.rows("SELECT * FROM heat_maps")) == 40


def test_old_results_leave_it_with_what_was_said_of_them(open_index: Open) -> None:
    index = open_index(keep_days=1)
    index.add([result(1, ago_s=2 * 86_400), result(2)])
    index.judge(
        [
            Feedback(result_id=f"frames:0:{n}", verdict="good", by="anna", at=timestamp(time.time() - 86_400 * 1.5))
            for n in (1, 2)
        ]
    )
    index.add([result(n, None) for n in range(10, 1010)])
    assert ids(index, lane="any") == ["frames:0:2"]
    assert [row["id"] for row in index.rows("SELECT * FROM feedback")] == ["frames:0:2"]


@pytest.mark.parametrize("drift_first", [True, False])
def test_a_drift_makes_the_frame_wait_that_it_came_with(open_index: Open, drift_first: bool) -> None:
    index = open_index()
    steps = [lambda: index.alarm([drift(1)]), lambda: index.add([result(1, None, part="p-1")])]
    for step in steps if drift_first else reversed(steps):
        step()
    row = index.get("frames:0:1")
    assert row is not None
    assert (row["kind"], row["lane"], row["reason"], row["part"]) == ("drift", "unusable", "darker than usual", "p-1")
    assert row["score"] is not None


@pytest.mark.parametrize("drift_first", [True, False])
def test_an_alert_of_its_own_goes_before_a_drift(open_index: Open, drift_first: bool) -> None:
    index = open_index()
    steps = [lambda: index.alarm([drift(1)]), lambda: index.add([result(1, "defect")])]
    for step in steps if drift_first else reversed(steps):
        step()
    row = index.get("frames:0:1")
    assert row is not None
    assert (row["kind"], row["lane"]) == ("defect", "defect")


def test_an_alarm_is_on_until_it_is_cleared_in_whatever_order_that_is_read(open_index: Open) -> None:
    index = open_index()
    start_s = time.time()
    for alarm in (drift(1, at_s=start_s), drift(9, "cleared", start_s + 9), drift(5, at_s=start_s + 5)):
        index.alarm([alarm])
    assert [row["raised"] for row in index.rows("SELECT * FROM alarms")] == [0]


def test_it_outlives_its_process(open_index: Open) -> None:
    index = open_index()
    index.add([result(1)], {"verdicts::0": 7})
    again = open_index()
    assert (ids(again), again.places(), again.seq) == (["frames:0:1"], {"verdicts::0": 7}, 1)
    assert again.epoch != index.epoch, "pages load anew: what changed meanwhile has no number"


@pytest.mark.parametrize("damage", ["garbage", "half", "another version"])
def test_a_damaged_index_is_made_anew(open_index: Open, tmp_path: Path, damage: str) -> None:
    index = open_index()
    index.add([result(n) for n in range(200)], {"verdicts::0": 7})
    index.close()
    file = tmp_path / "index.sqlite"
    if damage == "garbage":
        file.write_bytes(b"no database" * 1000)
    elif damage == "half":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        connection = sqlite3.connect(file)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    again = open_index()
    assert (ids(again), again.places()) == ([], {})
    assert again.add([result(1)]) == 1


def test_two_consoles_do_not_share_a_folder(open_index: Open, tmp_path: Path) -> None:
    open_index()
    with pytest.raises(DataError, match=r"another console uses .*; give each a folder of its own"):
        Index(tmp_path, 10, 1)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"console\.state: .* cannot be used"):
        Index(tmp_path / "file", 10, 1)
