"""The metrics of `quarterturn parts`. docs/parts.md lists them, and a test compares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import get_args

from quarterturn.worker.messages.parts import PartData, PartState, PartVerdict
from quarterturn.worker.parts.seen import Ignored
from quarterturn.worker.runtime.metrics import CommonMetrics
from quarterturn.worker.transport.base import Standing


class PartMetrics(CommonMetrics):
    """All that is counted of parts, see CommonMetrics; `are_open` is asked at every scrape, too."""

    def __init__(
        self, standing: Callable[[], Standing], ready: Callable[[], bool], are_open: Callable[[], float]
    ) -> None:
        super().__init__(standing, ready)
        parts = self._counter("quarterturn_parts", "Results of parts", "verdict", "state")
        ignored = self._counter("quarterturn_frames_of_no_part", "Results of frames that count for no part", "why")
        kinds = [(verdict, state) for verdict in get_args(PartVerdict) for state in get_args(PartState)]
        self._parts = {kind: parts.labels(*kind) for kind in kinds}
        self._ignored = {why: ignored.labels(why) for why in get_args(Ignored)}
        self._ask("quarterturn_open_parts", "Parts that are waited for", are_open)

    def count(self, parts: Iterable[PartData]) -> None:
        """Count results that are delivered."""
        for part in parts:
            self._parts[part.verdict, part.state].inc()

    def ignore(self, why: Ignored) -> None:
        """Count the result of a frame that counts for no part."""
        self._ignored[why].inc()
