"""The tables of the index, what is done with them, and how a file with them is opened."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

log = logging.getLogger(__name__)

_VERSION = 2  # of the tables; another one is made anew
_TABLES = """
CREATE TABLE results (
    id TEXT PRIMARY KEY, seq INTEGER NOT NULL, at REAL NOT NULL, camera TEXT NOT NULL, product TEXT, looks_like TEXT,
    part TEXT, kind TEXT, lane TEXT, score REAL, threshold REAL, p_value REAL, reason TEXT, simulated INTEGER,
    bank TEXT, took_ms REAL, age_ms REAL, has_heat INTEGER,
    code TEXT, topic TEXT, topic_id TEXT, partition INTEGER, "offset" INTEGER,
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
CREATE TABLE alarms (
    camera TEXT, about TEXT, raised INTEGER, at REAL, kind TEXT, count INTEGER, reason TEXT, id TEXT, code TEXT,
    PRIMARY KEY (camera, about)
) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_GIVEN = (
    *("id", "at", "camera", "product", "looks_like", "part", "kind", "lane", "score", "threshold", "p_value", "reason"),
    *("simulated", "bank", "took_ms", "age_ms", "has_heat", "code", "topic", "topic_id", "partition", "offset"),
)
"""Columns of a result that its event gives."""
JUDGED = ("verdict", "reviewed_by", "reviewed_at", "really", "region")
"""Those that people give."""
_COLUMNS = ("seq", *_GIVEN, *JUDGED)

ALARM = (
    "INSERT INTO alarms VALUES (:camera, :about, :raised, :at, :kind, :count, :reason, :id, :code) "
    "ON CONFLICT DO UPDATE SET raised = :raised, at = :at, kind = :kind, count = :count, reason = :reason, id = :id, "
    "code = :code "
    "WHERE at < :at OR (at = :at AND :raised < raised)"
)
DRIFT_ROW = (
    'INSERT INTO results (id, seq, at, camera, kind, lane, reason, code, topic, topic_id, partition, "offset") '
    "VALUES (:id, :seq, :at, :camera, :kind, 'unusable', :reason, :code, :topic, :topic_id, :partition, :offset) "
    "ON CONFLICT (id) DO UPDATE SET seq = :seq, kind = :kind, lane = 'unusable', reason = :reason, code = :code "
    "WHERE lane IS NULL"
)
_QUOTED = ", ".join(f'"{name}"' for name in _COLUMNS)  # `offset` is a word of SQL's
_VALUES = ", ".join(f":{name}" for name in _COLUMNS)
INSERT = f"INSERT INTO results ({_QUOTED}) VALUES ({_VALUES}) ON CONFLICT (id) DO NOTHING"  # noqa: S608 - names of ours
_OWN = [name for name in _GIVEN if name not in {"id", "at", "camera", "kind", "lane", "reason", "code"}]
_COMPLETED = ", ".join(f'"{name}" = :{name}' for name in _OWN)
COMPLETE = (  # a drift was read before the verdict of its frame
    f"UPDATE results SET seq = :seq, {_COMPLETED}, "  # noqa: S608 - names of ours
    "kind = COALESCE(:kind, kind), lane = COALESCE(:lane, lane), reason = COALESCE(:reason, reason), "
    "code = COALESCE(:code, code) "
    "WHERE id = :id AND kind = 'drift' AND score IS NULL AND :score IS NOT NULL"
)
JUDGE = "INSERT OR REPLACE INTO feedback VALUES (:id, :verdict, :reviewed_by, :reviewed_at, :really, :region)"
_JUDGEMENT = ", ".join(f"{name} = :{name}" for name in JUDGED)
JOIN = f"UPDATE results SET seq = :seq, {_JUDGEMENT} WHERE id = :id"  # noqa: S608 - names of ours
SHORTEN = (
    "DELETE FROM results WHERE id IN "
    "(SELECT id FROM results WHERE lane IS :lane ORDER BY at DESC, id DESC LIMIT -1 OFFSET :keep)"
)
FORGET = (
    "DELETE FROM feedback WHERE id NOT IN (SELECT id FROM results) "
    "AND julianday(reviewed_at) < julianday('now') - :days"
)


def open_index(path: Path) -> sqlite3.Connection:
    """The index at `path`; one that is damaged, or of another version, is made anew.

    Raises:
        sqlite3.Error: the file cannot be used, or is in use.
    """
    try:
        return _connect(path)
    except sqlite3.OperationalError:
        raise
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
        elif connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("its pages are damaged")
    except BaseException:
        connection.close()
        raise
    return connection
