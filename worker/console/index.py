"""The index of recent results: one SQLite file, bounded, and nothing in it that the topics could not give again."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from quarterturn.worker.console.query import Filter, Page, conditions
from quarterturn.worker.console.rows import Row
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.messages.feedback import Feedback

log = logging.getLogger(__name__)

_VERSION = 1  # of the tables; another one is made anew
_TABLES = """
CREATE TABLE results (
    id TEXT PRIMARY KEY, seq INTEGER NOT NULL, at REAL NOT NULL, camera TEXT NOT NULL, product TEXT, looks_like TEXT,
    part TEXT, kind TEXT, lane TEXT, score REAL, threshold REAL, p_value REAL, reason TEXT, simulated INTEGER,
    bank TEXT, took_ms REAL, age_ms REAL, has_heat INTEGER, topic TEXT, topic_id TEXT, partition INTEGER, "offset" INTEGER,
    verdict TEXT, reviewed_by TEXT, reviewed_at TEXT, really TEXT, region TEXT
) WITHOUT ROWID;
CREATE INDEX by_lane ON results (lane, verdict, at DESC, id DESC);
CREATE INDEX by_time ON results (lane, at DESC, id DESC);
CREATE INDEX by_camera ON results (camera, at DESC, lane, kind);
CREATE INDEX by_product ON results (product);
CREATE INDEX by_change ON results (seq);
CREATE INDEX by_place ON results (topic, partition, "offset");
CREATE TABLE heat_maps (id TEXT PRIMARY KEY, png TEXT NOT NULL);
CREATE TABLE feedback (
    id TEXT PRIMARY KEY, verdict TEXT NOT NULL, reviewed_by TEXT NOT NULL, reviewed_at TEXT NOT NULL,
    really TEXT, region TEXT
) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_GIVEN = (
    "id at camera product looks_like part kind lane score threshold p_value reason simulated bank took_ms age_ms has_heat "
    "topic topic_id partition offset"
).split()
_JUDGED = ("verdict", "reviewed_by", "reviewed_at", "really", "region")
_PRUNE_EVERY = 1000  # results


class Index:
    """Recent results by their id, with what people said of them. Thread-safe.

    `seq` of a result rises whenever something about it changes, so that a page can ask what is new.

    Attributes:
        epoch: tells this index from the one before it, whose `seq` mean nothing here.
    """

    def __init__(self, folder: Path, keep: int, keep_days: float) -> None:
        """Open the index in `folder`; one that is damaged, or of another version, is made anew.

        Raises:
            DataError: the folder cannot be written.
        """
        self._keep, self._keep_s = keep, keep_days * 86_400
        self._lock = threading.RLock()
        self._path = folder / "index.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = _open(self._path)
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"console.state: {folder} cannot be used ({error}); correct path or permissions") from None
        self._since_prune = 0
        self._seq = self._one("SELECT COALESCE(MAX(seq), 0) FROM results")
        self.epoch = str(self._one("SELECT value FROM facts WHERE name = 'epoch'"))

    @property
    def seq(self) -> int:
        """The last change."""
        return self._seq

    def clear(self) -> None:
        """Forget everything: the topics are others than those that it was made from."""
        with self._lock, self._connection as connection:
            for table in ("results", "heat_maps", "feedback", "facts"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - a name of ours
            self.epoch = uuid.uuid4().hex
            connection.execute("INSERT INTO facts VALUES ('epoch', ?)", (self.epoch,))

    def add(self, rows: Iterable[tuple[Row, str | None]], places: Mapping[str, int] | None = None) -> int:
        """Add results with their heat maps, unless they are there; note up to where the topics were read.

        Gives how many were new.
        """
        new = 0
        with self._lock, self._connection as connection:
            for row, heat in rows:
                judged = connection.execute("SELECT * FROM feedback WHERE id = ?", (row["id"],)).fetchone()
                full = {**row, "seq": self._seq + 1, **{name: judged[name] if judged else None for name in _JUDGED}}
                if connection.execute(_INSERT, full).rowcount:
                    self._seq += 1
                    new += 1
                    if heat is not None:
                        connection.execute("INSERT OR REPLACE INTO heat_maps VALUES (?, ?)", (row["id"], heat))
            if places:
                connection.execute("INSERT OR REPLACE INTO facts VALUES ('places', ?)", (json.dumps(dict(places)),))
            self._since_prune += new
            if self._since_prune >= _PRUNE_EVERY:
                self._prune(connection)
        return new

    def places(self) -> dict[str, int]:
        """Up to where the topics were read, as `add` was told last."""
        found = self._one("SELECT value FROM facts WHERE name = 'places'")
        return dict(json.loads(found)) if found else {}

    def judge(self, feedback: Iterable[Feedback]) -> int:
        """Join what people said to their results, also to those that come later; how many of it is new."""
        changed = 0
        with self._lock, self._connection as connection:
            for one in feedback:
                values = _judgement(one)
                known = connection.execute("SELECT * FROM feedback WHERE id = ?", (one.result_id,)).fetchone()
                if known is not None and dict(known) == values:
                    continue
                connection.execute(_JUDGE, values)
                changed += 1
                self._seq += 1
                connection.execute(_JOIN, {**values, "seq": self._seq})
        return changed

    def get(self, result_id: str) -> Row | None:
        """One result."""
        found = self.rows("SELECT * FROM results WHERE id = ?", (result_id,))
        return found[0] if found else None

    def heat_of(self, result_id: str) -> str | None:
        """Its heat map as it was published: a PNG in base64."""
        found = self.rows("SELECT png FROM heat_maps WHERE id = ?", (result_id,))
        return str(found[0]["png"]) if found else None

    def page(self, chosen: Filter, page: Page) -> list[Row]:
        """The results that `chosen` names, the newest first."""
        where, values = conditions(chosen, page)
        order = "seq" if page.since is not None else "at DESC, id DESC"
        return self.rows(f"SELECT * FROM results WHERE {where} ORDER BY {order} LIMIT :limit", values)  # noqa: S608

    def count(self, chosen: Filter) -> int:
        """How many results `chosen` names."""
        where, values = conditions(chosen, Page())
        return int(self._one(f"SELECT COUNT(*) FROM results WHERE {where}", values))  # noqa: S608

    def rows(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        """What `query` finds, each by its columns."""
        with self._lock:
            return [dict(row) for row in self._connection.execute(query, values)]

    def close(self) -> None:
        """Release the file; may be called twice."""
        with self._lock:
            self._connection.close()

    def _one(self, query: str, values: Mapping[str, Any] | None = None) -> Any:
        with self._lock:
            found = self._connection.execute(query, values or {}).fetchone()
        return found[0] if found else None

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Keep to the bounds: age, and number by lane. What was said of results that are gone goes with them."""
        self._since_prune = 0
        connection.execute("DELETE FROM results WHERE at < ?", (time.time() - self._keep_s,))
        for lane in (None, "defect", "wrong", "unusable"):
            connection.execute(_SHORTEN, {"lane": lane, "keep": self._keep})
        connection.execute("DELETE FROM heat_maps WHERE id NOT IN (SELECT id FROM results)")
        connection.execute(_FORGET, {"days": self._keep_s / 86_400})


_COLUMNS = ("seq", *_GIVEN, *_JUDGED)
_QUOTED = ", ".join(f'"{name}"' for name in _COLUMNS)  # `offset` is a word of SQL's
_VALUES = ", ".join(f":{name}" for name in _COLUMNS)
_INSERT = f"INSERT INTO results ({_QUOTED}) VALUES ({_VALUES}) ON CONFLICT (id) DO NOTHING"  # noqa: S608 - names of ours
_JUDGE = "INSERT OR REPLACE INTO feedback VALUES (:id, :verdict, :reviewed_by, :reviewed_at, :really, :region)"
_JUDGEMENT = ", ".join(f"{name} = :{name}" for name in _JUDGED)
_JOIN = f"UPDATE results SET seq = :seq, {_JUDGEMENT} WHERE id = :id"  # noqa: S608 - names of ours
_SHORTEN = (
    "DELETE FROM results WHERE id IN "
    "(SELECT id FROM results WHERE lane IS :lane ORDER BY at DESC, id DESC LIMIT -1 OFFSET :keep)"
)
_FORGET = (
    "DELETE FROM feedback WHERE id NOT IN (SELECT id FROM results) "
    "AND julianday(reviewed_at) < julianday('now') - :days"
)


def _open(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.DatabaseError:
        log.warning("%s: is no index, or a damaged one; it is made anew from the topics", path)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    """A connection to an index of our version.

    Raises:
        sqlite3.DatabaseError: it is none.
    """
    connection = sqlite3.connect(path, check_same_thread=False, timeout=10)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # what a power cut takes, the topics give again
        with closing(connection.execute("PRAGMA user_version")) as cursor:
            version = cursor.fetchone()[0]
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"it is of version {version}")
        if version == 0:
            with connection:
                connection.executescript(f"{_TABLES} PRAGMA user_version = {_VERSION};")
                connection.execute("INSERT INTO facts VALUES ('epoch', ?)", (uuid.uuid4().hex,))
        elif connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("its pages are damaged")
    except BaseException:
        connection.close()
        raise
    return connection


def _judgement(feedback: Feedback) -> dict[str, Any]:
    return {
        "id": feedback.result_id,
        "verdict": feedback.verdict,
        "reviewed_by": feedback.by,
        "reviewed_at": feedback.at,
        "really": feedback.product,
        "region": feedback.region.model_dump_json() if feedback.region else None,
    }
