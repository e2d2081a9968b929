"""Judgements over HTTP: who may give them, what may be said, and what stands in the topic then."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.worker.console.conftest import Page, Serve
from tests.worker.console.pretend import TOKENS, Made, PretendLine, jpeg


def test_a_judgement_is_a_record_in_the_name_of_the_token(page: Page, line: PretendLine, alert: str) -> None:
    body = {"ids": [alert], "verdict": "bad", "region": {"x": 1, "y": 2, "width": 3, "height": 4}}
    answer = page.post("/api/feedback", headers=page.anna, json=body)
    assert answer.json() == {"count": 1, "by": "anna"}
    (record,) = line.said().values()
    assert (record["resultId"], record["verdict"], record["by"]) == (alert, "bad", "anna")
    assert record["region"] == body["region"]
    page.await_state(lambda state: state["lanes"]["defect"] == {"open": 0, "all": 1})
    row = page.get(f"/api/results/{alert}").json()
    assert (row["verdict"], row["by"]) == ("bad", "anna")


OUTSIDE = [
    {"x": 390, "y": 0, "width": 11, "height": 5},
    {"x": 0, "y": 199, "width": 1, "height": 2},
    {"x": 400, "y": 0, "width": 1, "height": 1},
    {"x": 10**30, "y": 0, "width": 1, "height": 1},
]


NO_REGIONS: list[Any] = [
    {"x": -1, "y": 0, "width": 1, "height": 1},
    {"x": 0, "y": 0, "width": 0, "height": 1},
    {"x": 0.5, "y": 0, "width": 1, "height": 1},
    {"x": 0, "y": 0, "width": 1},
    {"x": 0, "y": 0, "width": 1, "height": 1, "depth": 1},
    [0, 0, 1, 1],
    "0,0,1,1",
    {"x": "left", "y": 0, "width": 1, "height": 1},
]


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    *[({"region": one}, "outside", "the region is not inside the picture of 400 × 200 pixels") for one in OUTSIDE],
    *[({"region": one}, "region", "a region is x, y, width and height in whole pixels") for one in NO_REGIONS],
    *[({"product": one}, "product", "a product is a name of 1 to 200") for one in ["", " ", "a" * 201, "a\nb", 7]],
]


def test_what_is_said_beside_the_verdict_is_looked_at(page: Page, line: PretendLine, alert: str) -> None:
    for said, code, sentence in REFUSED:
        answer = page.post("/api/feedback", headers=page.anna, json={"ids": [alert], "verdict": "bad", **said})
        assert answer.status_code == 400, said
        assert answer.json()["error"].startswith(sentence), said
        assert answer.json()["code"] == f"fault.{code}", said
    assert line.said() == {}


@pytest.mark.parametrize("region", [{"x": 0, "y": 0, "width": 400, "height": 200}, OUTSIDE[2] | {"x": 399}])
def test_a_region_up_to_the_edges_is_inside(page: Page, line: PretendLine, alert: str, region: dict[str, int]) -> None:
    body = {"ids": [alert], "verdict": "bad", "region": region}
    assert page.post("/api/feedback", headers=page.anna, json=body).is_success
    assert line.said()[alert]["region"] == region
    assert page.get(f"/api/results/{alert}").json()["region"] == region


def test_a_region_is_of_one_picture(line: PretendLine, serve: Serve) -> None:
    ids = line.publish(*[Made("defect", picture=jpeg()) for _ in range(2)])
    page = serve()
    page.await_results(2)
    body = {"ids": ids, "verdict": "bad", "region": {"x": 0, "y": 0, "width": 1, "height": 1}}
    answer = page.post("/api/feedback", headers=page.anna, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "fault.one")
    assert line.said() == {}


def test_of_a_frame_that_is_gone_the_region_stays_as_it_was(line: PretendLine, serve: Serve) -> None:
    """Nobody can look whether another one is in the picture."""
    (alert,) = line.publish(Made("defect"))
    region = {"x": 1, "y": 2, "width": 3, "height": 4}
    record = {"resultId": alert, "verdict": "bad", "by": "ilse", "at": "2026-01-02T03:04:05Z", "region": region}
    line.raw(line.topics.feedback, json.dumps(record).encode(), alert.encode())
    page = serve()
    page.await_state(lambda state: state["lanes"]["defect"] == {"open": 0, "all": 1})
    body = {"ids": [alert], "verdict": "bad", "product": "ring"}
    another = page.post("/api/feedback", headers=page.anna, json={**body, "region": {**region, "x": 2}})
    assert (another.status_code, line.said()[alert]["by"]) == (400, "ilse")
    assert page.post("/api/feedback", headers=page.anna, json={**body, "region": region}).is_success
    said = line.said()[alert]
    assert (said["by"], said["product"], said["region"]) == ("anna", "ring", region)


def test_many_at_once(line: PretendLine, serve: Serve) -> None:
    ids = line.publish(*[Made("defect") for _ in range(40)])
    page = serve()
    page.await_results(40)
    assert page.post("/api/feedback", headers=page.anna, json={"ids": ids, "verdict": "good"}).json()["count"] == 40
    assert line.said().keys() == set(ids)


NO_TOKENS = {
    "none": {},
    "wrong": {"Authorization": "Bearer nobodys-token-of-this-page"},
    "empty": {"Authorization": "Bearer"},
    "no scheme": {"Authorization": TOKENS["anna"]},
    "other scheme": {"Authorization": f"Basic {TOKENS['anna']}"},
}


def test_without_a_token_nothing_is_changed(page: Page, line: PretendLine, alert: str) -> None:
    """Nor with the pass that a browser keeps: a foreign page could have it sent, but not the header."""
    page.post("/api/session", headers=page.anna)
    assert page.cookies
    for name, headers in NO_TOKENS.items():
        answer = page.post("/api/feedback", headers=headers, json={"ids": [alert], "verdict": "good"})
        assert answer.status_code == 403, name
        assert page.post("/api/session", headers=headers).status_code == 403, name
    assert line.said() == {}


NO_JUDGEMENTS = [
    b"",
    b"{}",
    b'{"ids": [], "verdict": "good"}',
    b'{"ids": ["ID"], "verdict": "maybe"}',
    b'{"ids": ["ID"], "verdict": "good", "by": "somebody else"}',
    b'{"ids": ["frames:0:12345"], "verdict": "good"}',
    b'{"ids": ["ID", "<script>"], "verdict": "good"}',
    b'{"ids": ["ID"], "verdict": "good", "product": "line\\nbreak"}',
    b'{"ids": ["ID"], "verdict": "good"}' + b" " * 2**18,
]


def test_what_is_no_judgement_changes_nothing(page: Page, line: PretendLine, alert: str) -> None:
    for body in NO_JUDGEMENTS:
        answer = page.post("/api/feedback", headers=page.anna, content=body.replace(b"ID", alert.encode()))
        assert answer.status_code in (400, 413), body[:60]
        assert answer.json()["error"], body[:60]
    assert line.said() == {}
