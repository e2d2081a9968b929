"""Which frames are of one part, and when its result is made."""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from quarterturn.worker.messages.parts import PartData, PartState
from quarterturn.worker.messages.settled import Settled
from quarterturn.worker.parts.marks import Marks
from quarterturn.worker.parts.merging import Item
from quarterturn.worker.parts.part import part_data
from quarterturn.worker.parts.seen import Ignored, Seen
from quarterturn.worker.settings.parts import PartsSettings

SPAN = 20_000
"""Records of a partition between the oldest that is remembered and the newest: their marks fit beside a position."""

_MOST = 1000
"""Frames of a part: a camera that gives all its frames one id must not make a result that no topic takes."""

_Key = tuple[str, bool]


@dataclass(slots=True, eq=False)
class _Part:
    first: _Frame
    opened_s: float
    needed: tuple[str, ...]
    frames: list[_Frame] = field(default_factory=list)
    cameras: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Frame:
    """A record that is remembered; `part` is that which it belongs to, until the result of that one is made."""

    seen: Seen
    partition: int
    offset: int
    read_s: float
    part: _Part | None = None
    over: bool = False  # its own time is

    @property
    def settled(self) -> bool:
        return self.part is None


class Grouping:
    """Makes the results of parts; of one thread.

    A part is open from its first frame on. It is complete with a frame of each of its cameras; else it times out with
    the first frame, of whatever part, whose time is beyond its window, or, where none comes, when so much time has
    passed since its first frame was read. A frame of the same part id that is further away than the window, or comes
    after the result, is the first of another part. Simulated parts are others than real ones.

    A frame is remembered until its result is made and its own window is over, so a repetition is known as one. What is
    remembered is read again after a restart (see Marks); nothing else counts for what comes then.
    """

    def __init__(self, settings: PartsSettings, starts: Mapping[int, Settled]) -> None:
        """`starts` is what was committed of each partition that is read."""
        self._settings = settings
        self._marks = {partition: Marks(start) for partition, start in starts.items()}
        self._open: OrderedDict[_Key, _Part] = OrderedDict()  # in the order in which they were opened
        self._frames: OrderedDict[str, _Frame] = OrderedDict()  # in the order in which they were read
        self._by_time: list[tuple[float, int, _Frame]] = []
        self._numbers = itertools.count()

    @property
    def open(self) -> int:
        """Parts without a result."""
        return len(self._open)

    def take(self, item: Item, now_s: float) -> tuple[list[PartData], Ignored | None]:
        """The results that are made with this record, and why it counts for no part, if it does not."""
        marks, seen = self._marks[item.partition], item.seen
        settled_before = marks.read(item.offset)
        if not isinstance(seen, Seen):
            return self._make_room(marks), seen
        made = self._pass(seen.time_s)
        if seen.result_id in self._frames:
            return made + self._make_room(marks), "repeated"
        frame = _Frame(seen, item.partition, item.offset, now_s)
        self._frames[seen.result_id] = frame
        heapq.heappush(self._by_time, (seen.time_s, next(self._numbers), frame))
        marks.remember(item.offset, frame)
        if not settled_before:
            made += self._join(frame, now_s)
        return made + self._make_room(marks), None

    def silence(self, now_s: float) -> list[PartData]:
        """The results of parts for which nothing has come for too long, though all that there is was read."""
        made = []
        while self._open and self._is_over(next(iter(self._open.values())).opened_s, now_s):
            made.append(self._close(next(iter(self._open.values())), "timed_out"))
        while self._frames and self._is_over((oldest := next(iter(self._frames.values()))).read_s, now_s):
            self._forget(oldest)
        return made

    def settled(self) -> dict[int, Settled]:
        """What is to be committed of each partition, together with the results that were made so far."""
        return {partition: marks.settled() for partition, marks in self._marks.items()}

    def _is_over(self, begun_s: float, now_s: float) -> bool:
        return now_s - begun_s > self._settings.window_s

    def _pass(self, time_s: float) -> list[PartData]:
        """A frame of this time has come: the results of parts whose window is over."""
        made = []
        while self._by_time and self._is_over(self._by_time[0][0], time_s):
            frame = heapq.heappop(self._by_time)[2]
            frame.over = True
            if frame.part is not None and frame.part.first is frame:
                made.append(self._close(frame.part, "timed_out"))
            elif frame.settled:
                self._forget(frame)
        return made

    def _join(self, frame: _Frame, now_s: float) -> list[PartData]:
        """Add a frame to its part, or begin another one."""
        made, key = [], (frame.seen.part_id, frame.seen.simulated)
        part = self._open.get(key)
        if part is not None and self._is_over(frame.seen.time_s, part.first.seen.time_s):
            made.append(self._close(part, "timed_out"))  # this one is older, by more than a window
            part = None
        if part is None:
            part = self._open[key] = _Part(frame, now_s, self._settings.of(frame.seen.product))
        frame.part = part
        part.frames.append(frame)
        part.cameras.add(frame.seen.camera)
        if part.cameras.issuperset(part.needed):
            made.append(self._close(part, "complete"))
        elif len(part.frames) == _MOST:
            made.append(self._close(part, "timed_out"))
        return made

    def _close(self, part: _Part, state: PartState) -> PartData:
        seen = [frame.seen for frame in part.frames]
        del self._open[seen[0].part_id, seen[0].simulated]
        for frame in part.frames:
            frame.part = None
            if frame.over:
                self._forget(frame)
        return part_data(seen, part.needed, state)

    def _forget(self, frame: _Frame) -> None:
        """Drop it, unless that was done before its own window was over."""
        if self._frames.get(frame.seen.result_id) is frame:
            del self._frames[frame.seen.result_id]
            self._marks[frame.partition].forget(frame.offset)
        if len(self._by_time) > 2 * len(self._frames) + SPAN:  # most of it is forgotten
            self._by_time = [one for one in self._by_time if self._frames.get(one[2].seen.result_id) is one[2]]
            heapq.heapify(self._by_time)

    def _make_room(self, marks: Marks) -> list[PartData]:
        """Where too much is remembered, the oldest parts time out, whatever their window."""
        made = []
        while marks.span > SPAN:
            oldest = marks.oldest
            assert isinstance(oldest, _Frame)  # nothing else was put there
            if oldest.part is not None:
                made.append(self._close(oldest.part, "timed_out"))
            self._forget(oldest)
        return made
