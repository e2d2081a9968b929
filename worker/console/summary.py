"""What the page shows at the first glance, as one JSON text for all who look."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from quarterturn.worker.console.figures import cameras_of, choices_of, counts_of
from quarterturn.worker.console.follow import Follower
from quarterturn.worker.console.index import Index
from quarterturn.worker.console.standing import Standing

_FRESH_S = 0.5  # it is not made more often, however many look
_STALE_S = 5.0  # rates fall though nothing comes in


class Summary:
    """Made from index and standing when something changed. Thread-safe."""

    def __init__(self, line: str, index: Index, follower: Follower, standing: Standing, judging: bool) -> None:
        """`judging` says whether there is anybody who may."""
        self._line, self._index, self._follower, self._standing = line, index, follower, standing
        self._judging = judging
        self._lock = threading.Lock()
        self._text, self._made_s = "", float("-inf")
        self._of: tuple[object, ...] = ()

    def text(self) -> str:
        """The present summary, half a second old at most where something changed."""
        with self._lock:
            now_s = time.monotonic()
            if now_s - self._made_s >= _FRESH_S:
                health = self._health()
                made_of = (self._index.epoch, self._index.seq, json.dumps(health))
                if made_of != self._of or now_s - self._made_s >= _STALE_S:
                    self._text = json.dumps(self._make(health), allow_nan=False, separators=(",", ":"))
                    self._of, self._made_s = made_of, now_s
            return self._text

    def _make(self, health: dict[str, Any]) -> dict[str, Any]:
        return {
            "line": self._line,
            "epoch": self._index.epoch,
            "seq": self._index.seq,
            "judging": self._judging,
            "now": time.time(),
            "lanes": counts_of(self._index),
            "cameras": cameras_of(self._index, time.time(), self._follower.lag or {}),
            "choices": choices_of(self._index),
            **health,
        }

    def _health(self) -> dict[str, Any]:
        lag = self._follower.lag
        return {
            "broker": self._follower.state,
            "behind": self._follower.behind,
            "skipped": self._follower.skipped,
            "lag": None if lag is None else sum(lag.values()),
            "workers": self._standing.workers,
            "bank": self._standing.bank,
        }
