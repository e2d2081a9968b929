"""examples/database.py, on a real Kafka, with SQLite and with a real PostgreSQL."""

from __future__ import annotations

import re
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest

from quarterturn.worker.messages.feedback import Feedback, event_of
from tests.api.plant import ROOT
from tests.api.receivers import Postgres
from tests.api.sinks import Feed, broken, of_kind, result, verdict_event
from tests.conftest import CreateTopics
from tests.examples import frame, late, with_episode
from tests.services import folder_for

Rows = list[tuple[Any, ...]]


class Store(Protocol):
    """A database that may be away."""

    url: str

    def ask(self, sql: str) -> Rows: ...

    def leave(self) -> None: ...

    def come_back(self) -> None: ...


class Sqlite:
    def __init__(self, folder: Path) -> None:
        self.url = str(folder / "results.db")

    def ask(self, sql: str) -> Rows:
        with closing(sqlite3.connect(self.url)) as connection:
            return connection.execute(sql).fetchall()

    def leave(self) -> None:
        """As somebody who writes and does not end."""
        self._writer = sqlite3.connect(self.url)
        self._writer.execute("BEGIN EXCLUSIVE")

    def come_back(self) -> None:
        self._writer.close()


class OnServer:
    """A database of its own on the PostgreSQL of this file's tests."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        name = f"results_{uuid.uuid4().hex}"
        with psycopg.connect(server.url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}")
        self.url = server.url.replace("/postgres", f"/{name}")

    def ask(self, sql: str) -> Rows:
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql).fetchall()

    def leave(self) -> None:
        self._server.kill()

    def come_back(self) -> None:
        self._server.start()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with folder_for("postgres") as folder:
        server = Postgres(folder)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Sqlite(tmp_path) if request.param == "sqlite" else OnServer(request.getfixturevalue("postgres"))


def run(feed: Feed, store: Store) -> list[str]:
    """Let the program read all that there is; what it says."""
    with feed.program("database.py", store.url) as running:
        feed.wait_until_read()
        return running.stop()


def said(result_id: str, verdict: str, at: str = "2026-01-02T12:00:00Z") -> Feedback:
    return Feedback.model_validate({"resultId": result_id, "verdict": verdict, "by": "Ilse", "at": at})


def test_a_result_has_a_row(feed: Feed, store: Store) -> None:
    good, bad = result(0), result(1, "defect", part_id="Bügel 7", product_id="bracket", is_simulated=True)
    dark, old = result(2, "unusable_picture"), late(frame(3))
    feed.send(*[of_kind("verdict", one) for one in (good, bad, dark)], of_kind("late", old))
    assert run(feed, store) == []
    columns = (
        "result_id, kind, line, camera, part_id, product, alert, reason, score, threshold, simulated, engine, bank"
    )
    rows = store.ask(f"SELECT {columns} FROM results ORDER BY result_id")
    ids = [one.data.result_id for one in (good, bad, dark, old)]
    made = ("e" * 64, "b" * 64)
    assert rows == [
        (ids[0], "verdict", "line-3", "top-01", None, "screw", None, None, 0.5, 1.0, False, *made),
        (ids[1], "verdict", "line-3", "top-01", "Bügel 7", "bracket", "defect", None, 2.5, 1.0, True, *made),
        (
            ids[2],
            "verdict",
            "line-3",
            "top-01",
            None,
            "screw",
            "unusable_picture",
            dark.data.reason,
            2.5,
            1.0,
            False,
            *made,
        ),
        (ids[3], "late", "line-3", "top-01", None, None, None, None, None, None, False, None, None),
    ]
    ((when,),) = store.ask("SELECT date(created_at) FROM results LIMIT 1")
    assert str(when) == good.data.creation_time[:10]


def test_what_comes_again_is_there_once_and_the_last_word_counts(feed: Feed, store: Store) -> None:
    one = result(1, "defect")
    for _ in range(2):
        feed.send(of_kind("verdict", one), of_kind("alert", one))
        feed.send(*[event_of(said(one.data.result_id, verdict)) for verdict in ("bad", "good")])
        assert run(feed, store) == []
    assert store.ask("SELECT result_id, alert FROM results") == [(one.data.result_id, "defect")]
    assert store.ask("SELECT result_id, verdict, said_by FROM feedback") == [(one.data.result_id, "good", "Ilse")]


def test_several_topics_are_read(store: Store, kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    verdicts, feedback = Feed(kafka_bootstrap, topics.verdicts), Feed(kafka_bootstrap, topics.feedback)
    feedback.group = verdicts.group
    verdicts.send(verdict_event(0))
    feedback.send(event_of(said(result(0).data.result_id, "bad")))
    with verdicts.program("database.py", store.url, topics=f"{topics.verdicts},{topics.feedback}") as running:
        verdicts.wait_until_read()
        feedback.wait_until_read()
        assert running.stop() == []
    assert store.ask("SELECT verdict FROM results JOIN feedback USING (result_id)") == [("bad",)]


def test_a_database_that_is_away_loses_nothing(feed: Feed, store: Store) -> None:
    feed.send(verdict_event(0))
    assert run(feed, store) == []
    store.leave()
    try:
        feed.send(*[verdict_event(number) for number in range(1, 700)])
        with feed.program("database.py", store.url) as running:
            assert "cannot be written to" in running.lines(1)[0]
            assert feed.position() == 1
            store.come_back()
            feed.wait_until_read()
            assert running.lines(1) == ["it is back"]
            assert running.stop() == []
    except BaseException:
        store.come_back()
        raise
    assert store.ask("SELECT count(*), count(DISTINCT result_id) FROM results") == [(700, 700)]


def test_after_a_power_cut_every_result_is_there_once(feed: Feed, store: Store) -> None:
    feed.send(*[verdict_event(number) for number in range(2000)])
    with feed.program("database.py", store.url) as running:
        while feed.position() == 0:
            pass
        running.kill()
    feed.send(verdict_event(2000))  # that the next one has something to read, however far this one came
    assert run(feed, store) == []
    assert store.ask("SELECT count(*), count(DISTINCT result_id) FROM results") == [(2001, 2001)]


WRONG: list[dict[str, Any]] = [
    {"resultId": None},
    {"camera": 7},
    {"camera": "top\0"},
    {"partId": "\ud800"},
    {"partId": ["7"]},
    {"score": "high"},
    {"score": None},
    {"threshold": {}},
    {"creationTime": "yesterday"},
]


def test_bad_events_are_skipped_and_said(feed: Feed, store: Store) -> None:
    feed.send(verdict_event(0))
    count = feed.put_bad() + len(WRONG) + 1
    for data in WRONG:
        feed.put(*broken(1, **data))
    feed.send(of_kind("episode", with_episode(result(2, "defect"), "raised")), verdict_event(3))
    lines = run(feed, store)
    assert [line.split(":")[0] for line in lines] == [f"{feed.topic}[0]@{at} is skipped" for at in range(1, count + 1)]
    assert store.ask("SELECT count(*) FROM results") == [(2,)]


def test_the_questions_in_the_docs_have_the_right_answers(feed: Feed, store: Store) -> None:
    days = ["2026-01-02T06:00:00.000Z", "2026-01-02T18:00:00.000Z", "2026-01-03T06:00:00.000Z"]
    sent = [
        result(0, "defect", creation_time=days[0]),
        result(1, "defect", creation_time=days[1]),
        result(2, "wrong_product", creation_time=days[1], camera="side-01"),
        result(3, creation_time=days[1], part_id="Bügel 7"),
        result(4, "defect", creation_time=days[2], part_id="Bügel 7"),
        result(5, "defect", creation_time=days[2], is_simulated=True),
        result(6, creation_time=days[2]),
    ]
    feed.send(*[of_kind("verdict", one) for one in sent])
    words = {0: "good", 1: "bad", 3: "bad", 4: "good", 5: "good"}
    feed.send(*[event_of(said(sent[number].data.result_id, word)) for number, word in words.items()])
    feed.send(of_kind("late", late(frame(8))))
    assert run(feed, store) == []
    page = (ROOT / "docs/sinks.md").read_text(encoding="utf-8")
    overkill, alerts, part, escapes = [
        [tuple(str(value) if hasattr(value, "year") else value for value in row) for row in store.ask(question)]
        for question in re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    ]
    assert overkill == [("2026-01-02", 4, 3, 2, 1), ("2026-01-03", 2, 1, 1, 1)]
    assert alerts == [("side-01", "wrong_product", 1), ("top-01", "defect", 3)]
    assert [row[1:3] for row in part] == [("top-01", None), ("top-01", "defect")]
    assert [row[0] for row in escapes] == [sent[3].data.result_id]
