"""The page over HTTP: who may what, what is answered, and what a browser is told."""

from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from tests.worker.console.conftest import Page, Serve
from tests.worker.console.pretend import BANK, HEAT, TOKENS, Made, PretendLine, jpeg

STATIC = Path(__file__).parents[3] / "worker/console/static"


def decoded(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)


def test_a_result_as_it_was_published(page: Page, alert: str) -> None:
    (row,) = page.get("/api/results", params={"lane": "defect", "review": "open"}).json()["rows"]
    assert row == page.get(f"/api/results/{alert}").json()
    expected = {"id": alert, "kind": "defect", "part": "p-1", "product": "ring", "ratio": 1.5, "score": 3.0}
    expected |= {"threshold": 2.0, "pValue": 0.01, "bank": BANK, "tookMs": 30.0, "verdict": None, "hasHeat": True}
    assert expected.items() <= row.items()


def test_its_picture_and_its_heat(page: Page, alert: str) -> None:
    small, large = (decoded(page.get(f"/api/results/{alert}/picture?size={size}")) for size in ("small", "large"))
    assert (small.shape, large.shape) == ((160, 320, 3), (200, 400, 3))
    assert np.abs(large.mean((0, 1)) - (30, 30, 200)).max() < 6
    glaze = decoded(page.get(f"/api/results/{alert}/heat"))
    assert glaze.shape == (512, 512, 4)
    rows, columns = np.nonzero(glaze[..., 3])
    cell = 512 // HEAT.shape[0]
    assert (rows.min() // cell, rows.max() // cell) == (1, 4), "round the hot cells 2 to 3, and nowhere else"
    assert (columns.min() // cell, columns.max() // cell) == (3, 6)


def test_only_the_region_is_shown_that_the_worker_looks_at(line: PretendLine, tmp_path: Path, serve: Serve) -> None:
    """It is what the heat map covers."""
    from quarterturn.worker.console.pictures import LARGE, Pictures
    from quarterturn.worker.console.rows import row_of
    from tests.worker.console.pretend import outcome_of

    picture = np.zeros((60, 100, 3), np.uint8)
    picture[10:30, 20:60] = 255
    line.publish(made := Made(picture=cv2.imencode(".png", picture)[1].tobytes()))
    settings = line.settings(tmp_path, cameras={"top-01": {"region": {"x": 20, "y": 10, "width": 40, "height": 20}}})
    from quarterturn.worker.messages.frames import Position

    found = row_of(json.loads(outcome_of(made, Position(line.topics.frames, 0, 0)).data.model_dump_json(by_alias=True)))
    assert found is not None
    assert settings.transport.kafka is not None
    pictures = Pictures(settings.transport.kafka, settings.cameras)
    shown = cv2.imdecode(np.frombuffer(pictures.ask(found[0], LARGE).result(20), np.uint8), cv2.IMREAD_COLOR)
    pictures.close()
    assert shown.shape == (20, 40, 3)
    assert shown.min() > 240


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (Made("defect"), "there is no such frame yet"),
        (Made("dead_letter", picture=b"no picture"), "are no JPEG"),
    ],
    ids=["gone", "no picture"],
)
def test_why_there_is_no_picture_is_said(line: PretendLine, serve: Serve, made: Made, why: str) -> None:
    (mine,) = line.publish(made)
    page = serve()
    page.await_results(1)
    answer = page.get(f"/api/results/{mine}/picture")
    assert answer.status_code == 404
    assert re.search(why, answer.json()["error"]), answer.text


def test_every_answer_tells_the_browser_to_be_careful(page: Page, alert: str) -> None:
    places = ["/", "/static/app.js", "/api/state", "/api/nothing", f"/api/results/{alert}/picture", "/api/results/gone"]
    for place in places:
        headers = page.get(place).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy, place
        assert "unsafe" not in policy
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


def test_nothing_is_inline_and_nothing_is_loaded_from_elsewhere() -> None:
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8")
        elsewhere = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text)) - {"http://www.w3.org"}
        assert not elsewhere, file
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            file
        )
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", page)


def test_a_page_for_this_machine_answers_to_no_other_name(page: Page) -> None:
    """A foreign page may point its own name at 127.0.0.1, and would read along."""
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:9700", "[::1]:9700", "[::1]"):
        assert page.get("/api/state", headers={"Host": host}).is_success, host
    for host in ("evil.example", "evil.example:9700", "127.0.0.1.evil.example", "[::2]:80", ""):
        assert page.get("/api/state", headers={"Host": host}).status_code in (400, 421), host


def test_from_another_machine_reading_needs_a_token_too(line: PretendLine, serve: Serve) -> None:
    (alert,) = line.publish(Made("defect", picture=jpeg()))
    page = serve(host="0.0.0.0")
    for place in ("/api/state", "/api/events", "/api/results", f"/api/results/{alert}/picture"):
        assert page.get(place).status_code == 401, place
    assert page.get("/api/state", headers={"Cookie": "quarterturn_reading=guess"}).status_code == 401
    assert page.get("/").is_success
    assert page.get("/static/app.js").is_success
    assert page.get("/api/state", headers=page.anna).is_success
    given = page.post("/api/session", headers=page.anna)
    assert given.json() == {"name": "anna"}
    cookie = given.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKENS["anna"] not in cookie
    page.await_results(1)  # with the cookie alone
    assert page.get(f"/api/results/{alert}/picture").is_success


def test_changes_are_told_as_they_come(page: Page, line: PretendLine) -> None:
    with page.stream("GET", "/api/events") as stream:
        states = (json.loads(text[6:]) for text in stream.iter_lines() if text.startswith("data: {"))
        waiting = (state["lanes"]["defect"]["open"] for state in states)
        assert 1 in waiting
        line.publish(Made("defect"))
        assert 2 in waiting


def test_an_address_that_asks_for_nonsense_is_one_sentence(page: Page) -> None:
    for query in ("hours=x", "since=1.5", "limit=many", "beforeId=a", "beforeId=a&beforeAt=x"):
        answer = page.get(f"/api/results?{query}")
        assert answer.status_code == 404, query
        assert "are numbers" in answer.json()["error"], query


LANGUAGES_ASKED = {
    "de": "de",
    "de-AT,en;q=0.5": "de",
    "en;q=0.5, de;q=0.9": "de",
    "fr, en": "en",
    "": "en",
    "de;q=0": "en",
    "q=;,;;": "en",
}


def test_the_page_begins_in_the_browsers_language(page: Page) -> None:
    for accepted, language in LANGUAGES_ASKED.items():
        assert f'<html lang="{language}">' in page.get("/", headers={"Accept-Language": accepted}).text, accepted


def test_all_words_are_there_in_all_languages() -> None:
    from quarterturn.worker.console.languages import LANGUAGES

    words = json.loads((STATIC / "words.json").read_text(encoding="utf-8"))
    assert tuple(words) == LANGUAGES
    assert words["en"].keys() == words["de"].keys()
    for key, english in words["en"].items():
        german = words["de"][key]
        if english != "{text}":  # the console's own sentence
            assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", german)), key
        assert german.strip()
        assert english.strip()
    scripts = "".join(file.read_text(encoding="utf-8") for file in STATIC.glob("*.js"))
    asked = set(re.findall(r"""\bt\((?:\w+[^"`,()]*\? )?"([^"`]+)\"""", scripts))
    assert len(asked) > 50
    assert asked <= words["en"].keys()


@pytest.mark.parametrize("ready", [True, False])
def test_workers_and_bank_are_shown(line: PretendLine, serve: Serve, ready: bool) -> None:
    class Worker(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"ready": ready, "lacks": None if ready else "no bank", "parts": {"bank store": "ok"}})
            self.send_response(200 if ready else 503)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Worker) as worker:
        Thread(target=worker.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{worker.server_port}"
        state = serve(workers=[address, "http://127.0.0.1:9"]).await_state(lambda state: len(state["workers"]) == 2)
        worker.shutdown()
    mine, gone = state["workers"]
    assert mine == {"address": address, "ready": ready, "text": "" if ready else "no bank"}
    assert gone["ready"] is False
    assert "no answer" in gone["text"]
    assert "line-1" in state["bank"]["text"], "the line has no bank yet"
