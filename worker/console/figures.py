"""What the page says of each camera: its last frames, scores, rate and latency, all from the index."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from quarterturn.worker.console.index import Index
from quarterturn.worker.console.query import Filter
from quarterturn.worker.console.rows import DEAD_LETTER, LANES, LATE, Row, words_of
from quarterturn.worker.messages.events import score_over_threshold

MAX_CAMERAS = 100  # on the page; whoever may publish frames may make up names
_POINTS = 120  # of the curve of scores
_FRAMES = 4
_MINUTE_S, _HOUR_S = 60.0, 3600.0

_CAMERAS = "SELECT camera, MAX(at) AS at FROM results GROUP BY camera ORDER BY at DESC LIMIT :limit"
_LAST = (
    "SELECT id, at, score, threshold, kind, product, took_ms, age_ms, partition FROM results "
    "WHERE camera = :camera ORDER BY at DESC LIMIT :limit"
)
_SINCE = (
    "SELECT COUNT(*) AS frames, COALESCE(SUM(lane IS NOT NULL), 0) AS alerts, COALESCE(SUM(kind = :late), 0) AS late, "
    "COALESCE(SUM(kind = :dead), 0) AS dead FROM results WHERE camera = :camera AND at > :after"
)
_FURTHEST = 'SELECT partition, MAX("offset") AS last FROM results WHERE topic = :topic GROUP BY partition'
_DEAD = (
    "SELECT id, at, reason, code FROM results WHERE camera = :camera AND kind = :dead AND at > :after "
    "ORDER BY at DESC LIMIT 1"
)
_ALARMS = "SELECT kind, count, at, reason, code, id FROM alarms WHERE camera = :camera AND raised ORDER BY at LIMIT 10"
_NAMES = "SELECT DISTINCT {column} AS name FROM results WHERE {column} IS NOT NULL ORDER BY name LIMIT 200"


def cameras_of(index: Index, now_s: float, lag: Mapping[int, int]) -> list[dict[str, Any]]:
    """The cameras by name, those seen last where there are many. `lag` is how many frames of each partition wait."""
    seen = index.rows(_CAMERAS, {"limit": MAX_CAMERAS})
    return sorted((_camera(index, row["camera"], now_s, lag) for row in seen), key=lambda camera: str(camera["name"]))


def _camera(index: Index, name: str, now_s: float, lag: Mapping[int, int]) -> dict[str, Any]:
    last = index.rows(_LAST, {"camera": name, "limit": _POINTS})
    asked = {"camera": name, "late": LATE, "dead": DEAD_LETTER}
    (minute,) = index.rows(_SINCE, {**asked, "after": now_s - _MINUTE_S})
    (hour,) = index.rows(_SINCE, {**asked, "after": now_s - _HOUR_S})
    dead = index.rows(_DEAD, {"camera": name, "dead": DEAD_LETTER, "after": now_s - _HOUR_S})
    return {
        "name": name,
        "at": last[0]["at"],
        "product": last[0]["product"],
        "perSecond": round(minute["frames"] / _MINUTE_S, 2),
        "tookMs": _median(last, "took_ms"),
        "ageMs": _median(last, "age_ms"),
        "lag": sum(lag.get(partition, 0) for partition in {row["partition"] for row in last}),
        "hour": hour,
        "dead": {**dead[0], **words_of(dead[0]["code"], dead[0]["reason"])} if dead else None,
        "alarms": index.rows(_ALARMS, {"camera": name}),
        "frames": [_frame(row) for row in last[:_FRAMES]],
        "scores": [ratio_of(row) for row in reversed(last) if row["score"] is not None],
    }


def counts_of(index: Index) -> dict[str, dict[str, int]]:
    """By lane: how many results nobody has reviewed, and how many there are."""
    lanes = dict.fromkeys(LANES.values())
    return {
        lane: {"open": index.count(Filter(lane=lane, review="open")), "all": index.count(Filter(lane=lane))}
        for lane in lanes
    }


def choices_of(index: Index) -> dict[str, list[str]]:
    """What the filters offer."""
    return {
        f"{column}s": [row["name"] for row in index.rows(_NAMES.format(column=column))]
        for column in ("camera", "product")
    }


def furthest(index: Index, topic: str) -> dict[int, int]:
    """The last offset of each partition of `topic` that has a result here."""
    return {row["partition"]: row["last"] for row in index.rows(_FURTHEST, {"topic": topic})}


def _frame(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "at": row["at"], "kind": row["kind"], "ratio": ratio_of(row)}


def ratio_of(row: Row) -> float | None:
    """The score in thresholds; None where there is no score."""
    return None if row["score"] is None else round(score_over_threshold(row["score"], row["threshold"]), 3)


def _median(rows: list[dict[str, Any]], column: str) -> float | None:
    values = [row[column] for row in rows if row[column] is not None]
    return round(statistics.median(values), 1) if values else None
