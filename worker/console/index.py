"""The index of recent results: one SQLite file, bounded, and nothing in it that the topics could not give again."""

from __future__ import annotations

import fcntl
import json
import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from quarterturn.worker.console import tables
from quarterturn.worker.console.alarms import DRIFT, Alarm
from quarterturn.worker.console.query import Filter, Page, conditions
from quarterturn.worker.console.rows import Row
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.messages.events import position_of
from quarterturn.worker.messages.feedback import Feedback

log = logging.getLogger(__name__)

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
            DataError: the folder cannot be written, or another console has it.
        """
        self._keep, self._keep_s = keep, keep_days * 86_400
        self._lock = threading.RLock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._mine = _own(folder)
            self._connection = tables.open_index(folder / "index.sqlite")
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"console.state: {folder} cannot be used ({error}); correct path or permissions") from None
        self._since_prune = 0
        self._seq = int(self._one("SELECT COALESCE(MAX(seq), 0) FROM results"))
        self.epoch = uuid.uuid4().hex

    @property
    def seq(self) -> int:
        """The last change."""
        return self._seq

    def clear(self) -> None:
        """Forget everything: the topics are others than those that it was made from."""
        with self._lock, self._connection as connection:
            for table in ("results", "heat_maps", "alarms", "feedback", "facts"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - a name of ours
            self.epoch = uuid.uuid4().hex

    def add(self, rows: Iterable[tuple[Row, str | None]], places: Mapping[str, int] | None = None) -> int:
        """Add results with their heat maps, unless they are there; note up to where the topics were read.

        Gives how many were new.
        """
        new = 0
        with self._lock, self._connection as connection:
            for row, heat in rows:
                new += self._add(connection, row, heat)
            if places:
                connection.execute("INSERT OR REPLACE INTO facts VALUES ('places', ?)", (json.dumps(dict(places)),))
            self._since_prune += new
            if self._since_prune >= _PRUNE_EVERY:
                self._prune(connection)
        return new

    def alarm(self, alarms: Iterable[Alarm]) -> None:
        """Take alarms of cameras, raised or cleared, the last one of each counts.

        A drift makes the frame that it came with a result to be reviewed, where that is no alert by itself.
        """
        with self._lock, self._connection as connection:
            for alarm in alarms:
                if not connection.execute(tables.ALARM, alarm).rowcount:
                    continue  # there was a later one
                self._seq += 1
                if alarm["kind"] == DRIFT and alarm["raised"]:
                    place = asdict(position_of(alarm["id"]))
                    connection.execute(tables.DRIFT_ROW, {**alarm, **place, "seq": self._seq})

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
                connection.execute(tables.JUDGE, values)
                changed += 1
                self._seq += 1
                connection.execute(tables.JOIN, {**values, "seq": self._seq})
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
            self._mine.close()

    def _add(self, connection: sqlite3.Connection, row: Row, heat: str | None) -> int:
        judged = connection.execute("SELECT * FROM feedback WHERE id = ?", (row["id"],)).fetchone()
        said = {name: judged[name] if judged else None for name in tables.JUDGED}
        full = {**row, **said, "seq": self._seq + 1}
        if not any(connection.execute(query, full).rowcount for query in (tables.INSERT, tables.COMPLETE)):
            return 0
        self._seq += 1
        if heat is not None:
            connection.execute("INSERT OR REPLACE INTO heat_maps VALUES (?, ?)", (row["id"], heat))
        return 1

    def _one(self, query: str, values: Mapping[str, Any] | None = None) -> Any:
        with self._lock:
            found = self._connection.execute(query, values or {}).fetchone()
        return found[0] if found else None

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Keep to the bounds: age, and number by lane. What was said of results that are gone goes with them."""
        self._since_prune = 0
        connection.execute("DELETE FROM results WHERE at < ?", (time.time() - self._keep_s,))
        for lane in (None, "defect", "wrong", "unusable"):
            connection.execute(tables.SHORTEN, {"lane": lane, "keep": self._keep})
        connection.execute("DELETE FROM alarms WHERE at < ?", (time.time() - self._keep_s,))
        connection.execute("DELETE FROM heat_maps WHERE id NOT IN (SELECT id FROM results)")
        connection.execute(tables.FORGET, {"days": self._keep_s / 86_400})


def _own(folder: Path) -> IO[bytes]:
    """Keep others out of `folder` until what is given is closed."""
    mine = (folder / "lock").open("wb")
    try:
        fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        mine.close()
        raise DataError(f"console.state: another console uses {folder}; give each a folder of its own") from None
    return mine


def _judgement(feedback: Feedback) -> dict[str, Any]:
    return {
        "id": feedback.result_id,
        "verdict": feedback.verdict,
        "reviewed_by": feedback.by,
        "reviewed_at": feedback.at,
        "really": feedback.product,
        "region": feedback.region.model_dump_json() if feedback.region else None,
    }
