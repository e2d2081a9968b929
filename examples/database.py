"""Keep results in a database: python database.py [FILE or postgresql://... [SERVERS [TOPICS [GROUP]]]]

It needs `pip install confluent-kafka`, and for PostgreSQL `pip install "psycopg[binary]"`. A result has one row,
whatever comes again; what people say of results (the topic `feedback`) stands beside it. docs/sinks.md asks it a few
questions.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

from events import AwayError, Event, Reader, forward

Row = dict[str, str | float | bool | None]

# Types that SQLite and PostgreSQL both know.
TABLES = {
    "results": {
        "result_id": "TEXT PRIMARY KEY",
        "kind": "TEXT NOT NULL",  # verdict, or late: nobody has looked at it
        "line": "TEXT NOT NULL",
        "camera": "TEXT NOT NULL",
        "created_at": "TIMESTAMP WITH TIME ZONE NOT NULL",
        "part_id": "TEXT",
        "product": "TEXT",
        "alert": "TEXT",
        "reason": "TEXT",
        "score": "DOUBLE PRECISION",
        "threshold": "DOUBLE PRECISION",
        "simulated": "BOOLEAN NOT NULL",
        "engine": "TEXT",
        "bank": "TEXT",
    },
    "feedback": {
        "result_id": "TEXT PRIMARY KEY",
        "verdict": "TEXT NOT NULL",  # good or bad
        "said_by": "TEXT NOT NULL",
        "said_at": "TIMESTAMP WITH TIME ZONE NOT NULL",
    },
}


def row_of(event: Event) -> tuple[str, Row]:
    """The table that an event belongs to, and its row there."""
    data = event.data
    if event.kind == "feedback":
        who, when = text(data["by"]), time(data["at"])
        verdict = {"result_id": text(data["resultId"]), "verdict": text(data["verdict"])}
        return "feedback", {**verdict, "said_by": who, "said_at": when}
    if event.kind not in {"verdict", "alert", "late"}:
        raise ValueError(f"it is no result, but of the type {event.attributes['type']}")
    late = event.kind == "late"
    return "results", {
        "result_id": text(data["resultId"]),
        "kind": "late" if late else "verdict",  # an alert is the verdict once more
        "line": text(data["jobId"]),
        "camera": text(data["camera"]),
        "created_at": time(data["creationTime"]),
        "part_id": maybe(text, data["partId"]),
        "product": maybe(text, data["productId"] if late else data["productId"] or data["predictedProduct"]),
        "alert": None if late else maybe(text, data["alert"]),
        "reason": None if late else maybe(text, data["reason"]),
        "score": None if late else float(data["score"]),
        "threshold": None if late else float(data["threshold"]),
        "simulated": bool(data["isSimulated"]),
        "engine": None if late else text(data["internalRecipeId"]),
        "bank": None if late else text(data["internalConfigurationId"]),
    }


def text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:  # which PostgreSQL does not take
        raise ValueError(f"{value!r} is no text")
    return value.encode().decode()  # refuses half a character, which no database takes


def time(value: Any) -> str:
    datetime.fromisoformat(text(value).replace("Z", "+00:00"))
    return text(value)


def maybe(take: Callable[[Any], str], value: Any) -> str | None:
    return None if value is None else take(value)


class Database:
    """SQLite's file `url`, or the PostgreSQL that it names. A connection is for one piece, so none has to be mended."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._server = url.startswith(("postgresql://", "postgres://"))

    def deliver(self, rows: Sequence[tuple[str, Row]]) -> None:
        """All rows in one transaction."""
        connect, fault = self._driver()
        try:
            with closing(connect()) as connection, connection:
                for table, columns in TABLES.items():
                    names = ", ".join(f"{name} {kind}" for name, kind in columns.items())
                    connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({names})")
                for table, row in rows:
                    connection.execute(self._upsert(table), row)
        except fault as error:
            raise AwayError(f"the database cannot be written to ({' '.join(str(error).split())})") from None

    def _driver(self) -> tuple[Callable[[], Any], type[Exception]]:
        if self._server:
            import psycopg

            return lambda: psycopg.connect(self._url, connect_timeout=10), psycopg.Error
        return lambda: sqlite3.connect(self._url, timeout=2), sqlite3.Error

    def _upsert(self, table: str) -> str:
        names = list(TABLES[table])
        values = ", ".join(f"%({name})s" if self._server else f":{name}" for name in names)
        changes = ", ".join(f"{name} = excluded.{name}" for name in names)
        insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values})"  # noqa: S608  # all names stand above
        return f"{insert} ON CONFLICT (result_id) DO UPDATE SET {changes}"


def main(
    url: str = "results.db",
    servers: str = "localhost:9092",
    topics: str = "verdicts,feedback",
    group: str = "database",
) -> None:
    forward(Reader(servers, topics, group), row_of, Database(url).deliver, at_once=500)


if __name__ == "__main__":
    main(*sys.argv[1:])
