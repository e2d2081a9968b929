"""Topics into the index, through a real Kafka: what was there, what comes, and nothing that a worker would notice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from quarterturn.worker.messages.feedback import Feedback
from tests.worker.console.conftest import Serve
from tests.worker.console.pretend import Made, PretendLine, jpeg


def test_what_was_there_before_and_what_comes(line: PretendLine, serve: Serve) -> None:
    before = line.publish(Made("defect"), Made(), Made("late"), Made("dead_letter"))
    page = serve()
    page.await_results(4)
    after = line.publish(Made("wrong_product"), Made())
    page.await_results(6)
    assert set(page.ids()) == {*before, *after}
    state = page.await_state(  # a summary may be half a second old
        lambda state: state["broker"] == "ok" and [one["hour"]["frames"] for one in state["cameras"]] == [6]
    )
    assert {lane: count["open"] for lane, count in state["lanes"].items()} == {"defect": 1, "wrong": 1, "unusable": 0}
    (camera,) = state["cameras"]
    assert (camera["hour"]["late"], camera["hour"]["dead"]) == (1, 1)


@pytest.mark.parametrize("lost", [False, True])
def test_after_a_stop_it_goes_on_or_makes_a_lost_index_anew(
    line: PretendLine, serve: Serve, tmp_path: Path, lost: bool
) -> None:
    first = serve(tmp_path / "one")
    ids = line.publish(Made("defect"), Made())
    first.await_results(2)
    assert first.post("/api/feedback", headers=first.anna, json={"ids": ids[:1], "verdict": "bad"}).is_success
    first.stop(None, None, None)
    ids += line.publish(Made("unusable_picture"))
    second = serve(tmp_path / ("other" if lost else "one"))
    second.await_results(3)
    second.await_state(lambda state: state["lanes"]["defect"]["open"] == 0)  # the feedback, too
    assert set(second.ids()) == set(ids)


def test_an_index_of_other_topics_is_made_anew(line: PretendLine, serve: Serve, create_topics) -> None:
    first = serve()
    line.publish(Made("defect"))
    first.await_results(1)
    first.stop(None, None, None)
    line.topics = create_topics(1)
    second = serve()
    (mine,) = line.publish(Made())
    second.await_state(lambda _: second.ids() == [mine])


def test_it_reads_no_more_than_it_keeps_but_alerts_from_further_back(line: PretendLine, serve: Serve) -> None:
    (alert,) = line.publish(Made("defect"))
    good = line.publish(*[Made() for _ in range(30)])
    page = serve(keep=10)
    page.await_state(lambda state: state["behind"] == 0 and state["seq"] > 0)
    assert set(page.ids()) == {alert, *good[-10:]}


NO_RESULTS = {
    "empty": b"",
    "no json": b"no json",
    "a list": b"[1]",
    "nothing in it": b"{}",
    "half": b'{"resultId": "x"}',
    "too deep": b"[" * 100_000,
    "no text": b"\xff",
}


@pytest.mark.parametrize("value", NO_RESULTS.values(), ids=NO_RESULTS)
def test_what_is_no_result_is_skipped_and_counted(line: PretendLine, serve: Serve, value: bytes) -> None:
    for topic in (line.topics.verdicts, line.topics.alerts, line.topics.dead_letters, line.topics.feedback):
        line.raw(topic, value)
    (good,) = line.publish(Made("defect"))
    page = serve()
    page.await_results(1)
    page.await_state(lambda state: state["skipped"] == 3 and state["broker"] == "ok")
    assert page.ids() == [good]


def test_an_alarm_is_shown_at_its_camera_and_is_no_result(line: PretendLine, serve: Serve) -> None:
    (frame,) = line.publish(Made(camera="top-01"))
    common = {"creationTime": "2026-11-29T10:00:00.000Z", "camera": "top-01", "frame": {}, "resultId": frame}
    line.raw(line.topics.alerts, json.dumps({**common, "state": "grown", "kind": "defect", "count": 14}).encode())
    drift = {**common, "state": "raised", "measure": "brightness", "reason": "darker"}
    line.raw(line.topics.alerts, json.dumps(drift).encode())
    page = serve()
    state = page.await_state(lambda state: state["cameras"] and len(state["cameras"][0]["alarms"]) == 2)
    assert {(alarm["kind"], alarm["count"]) for alarm in state["cameras"][0]["alarms"]} == {
        ("defect", 14),
        ("drift", None),
    }
    page.await_state(lambda state: state["lanes"]["unusable"]["open"] == 1)
    line.raw(
        line.topics.alerts, json.dumps({**drift, "state": "cleared", "creationTime": "2026-11-29T11:00:00Z"}).encode()
    )
    page.await_state(lambda state: len(state["cameras"][0]["alarms"]) == 1)


def test_several_consoles_and_no_group(line: PretendLine, serve: Serve, tmp_path: Path) -> None:
    """What has no group and commits nothing cannot be in a worker's way."""
    ids = line.publish(Made("defect", picture=jpeg()), Made(picture=jpeg()))
    pages = [serve(tmp_path / name) for name in ("one", "two")]
    for page in pages:
        page.await_results(2)
        assert page.get(f"/api/results/{ids[0]}/picture").is_success
    assert pages[0].post("/api/feedback", headers=pages[0].anna, json={"ids": ids[:1], "verdict": "good"}).is_success
    pages[1].await_state(lambda state: state["lanes"]["defect"]["open"] == 0)
    groups = AdminClient({"bootstrap.servers": line.bootstrap}).list_consumer_groups().result(timeout=20)
    assert not [group.group_id for group in groups.valid if "quarterturn" in group.group_id]


def test_lag_is_what_has_no_result_yet(line: PretendLine, serve: Serve) -> None:
    line.publish(Made(picture=jpeg()))
    line._frames([Made(picture=jpeg()) for _ in range(3)])
    page = serve()
    page.await_state(lambda state: [state["lag"], *(one["lag"] for one in state["cameras"])] == [3, 3])


def test_feedback_of_anybody_is_shown(line: PretendLine, serve: Serve) -> None:
    (alert,) = line.publish(Made("defect"))
    page = serve()
    page.await_results(1)
    word = Feedback(result_id=alert, verdict="good", by="carla", at="2026-11-29T10:00:00Z")
    line.raw(line.topics.feedback, word.model_dump_json(by_alias=True).encode(), alert.encode())
    page.await_state(lambda state: state["lanes"]["defect"]["open"] == 0)
    assert page.get(f"/api/results/{alert}").json()["by"] == "carla"
