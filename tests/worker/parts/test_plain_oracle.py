"""All rules at once, with random crashes, beside an oracle that goes over the whole log, and never begins anew."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.worker.messages.parts import PartData
from quarterturn.worker.messages.settled import Settled
from quarterturn.worker.parts import grouping
from quarterturn.worker.parts.grouping import Grouping
from quarterturn.worker.parts.merging import Item, Merging
from quarterturn.worker.parts.seen import Ignored, Seen
from quarterturn.worker.settings.parts import PartsSettings
from tests.worker.parts.frames import SIDE, TOP, seen

REAR = "rear-01"
CAMERAS = (TOP, SIDE, REAR)
SETTINGS = PartsSettings(cameras=CAMERAS, products={"bracket": (TOP, SIDE)}, window_s=4.0)
AT_THE_END_S = 1000.0

Log = list["Seen | Ignored"]
Result = tuple[str, str, tuple[str, ...]]
"""Part, state, and the results of its frames."""


@dataclass
class Plain:
    """A part as the oracle has it: the steps at which its frames came, and at which it was over."""

    members: list[int]
    closed: int | None = None
    state: str = "timed_out"


@dataclass
class Oracle:
    """Looks at everything that came before, at each step."""

    log: Log
    parts: list[Plain] = field(default_factory=list)

    def results(self) -> list[Result]:
        for step, frame in enumerate(self.log):
            if isinstance(frame, Seen):
                self._take(step, frame)
        return sorted(self._result(part) for part in self.parts)

    def _take(self, step: int, frame: Seen) -> None:
        for part in self._open():
            if frame.time_s - self._at(part.members[0]).time_s > SETTINGS.window_s:
                part.closed = step
        if any(self._at(j).result_id == frame.result_id and self._is_remembered(p, j, step) for p, j in self._taken()):
            return
        for part in self._open():
            first = self._at(part.members[0])
            if (first.part_id, first.simulated) != (frame.part_id, frame.simulated):
                continue
            if first.time_s - frame.time_s <= SETTINGS.window_s:
                part.members.append(step)
                self._complete(part, step)
                return
            part.closed = step
        self.parts.append(Plain([step]))
        self._complete(self.parts[-1], step)

    def _complete(self, part: Plain, step: int) -> None:
        wanted = {TOP, SIDE} if self._at(part.members[0]).product == "bracket" else {TOP, SIDE, REAR}
        if wanted <= {self._at(j).camera for j in part.members}:
            part.closed, part.state = step, "complete"

    def _is_remembered(self, part: Plain, frame: int, step: int) -> bool:
        later = [one.time_s for one in self.log[frame + 1 : step + 1] if isinstance(one, Seen)]
        is_over = any(time - self._at(frame).time_s > SETTINGS.window_s for time in later)
        return part.closed is None or not is_over

    def _open(self) -> list[Plain]:
        return [part for part in self.parts if part.closed is None]

    def _taken(self) -> list[tuple[Plain, int]]:
        return [(part, j) for part in self.parts for j in part.members]

    def _at(self, step: int) -> Seen:
        frame = self.log[step]
        assert isinstance(frame, Seen)
        return frame

    def _result(self, part: Plain) -> Result:
        members = tuple(sorted(self._at(j).result_id for j in part.members))
        return self._at(part.members[0]).part_id, part.state, members


class Line:
    """Reads logs as `quarterturn parts` does, and dies at random: what it had not delivered is forgotten."""

    def __init__(self, logs: list[Log], seed: int, deaths: float) -> None:
        self._logs, self._rng, self._deaths = logs, random.Random(seed), deaths
        self._committed = {partition: Settled(0) for partition in range(len(logs))}
        self.published: list[PartData] = []
        self._begin()

    def run(self) -> list[PartData]:
        while any(self._positions[n] < len(log) for n, log in enumerate(self._logs)):
            self._step()
        self._deliver(self._groups.silence(AT_THE_END_S))
        return self.published

    def _begin(self) -> None:
        self._groups, self._merging = Grouping(SETTINGS, self._committed), Merging()
        self._positions = {partition: settled.position for partition, settled in self._committed.items()}

    def _step(self) -> None:
        partition = self._rng.choice([n for n, log in enumerate(self._logs) if self._positions[n] < len(log)])
        begin = self._positions[partition]
        for offset, frame in enumerate(self._logs[partition][begin : begin + self._rng.randint(1, 4)], begin):
            self._merging.put(Item(partition, offset, frame))
            self._positions[partition] = offset + 1
        more = [n for n, log in enumerate(self._logs) if self._positions[n] < len(log)]
        parts = [part for item in self._merging.ready(more, 0.0) for part in self._groups.take(item, 0.0)[0]]
        if self._rng.random() < self._deaths:
            self._begin()  # before the commit
            return
        if parts or self._rng.random() < 0.3:
            self._deliver(parts)
        if self._rng.random() < self._deaths:
            self._begin()  # after it

    def _deliver(self, parts: list[PartData]) -> None:
        self.published += parts
        self._committed = self._groups.settled()


def ids(parts: list[PartData]) -> list[str]:
    return [one for part in parts for several in part.frames.values() for one in several]


def results(parts: list[PartData]) -> list[Result]:
    return sorted((part.part_id, part.state, tuple(sorted(ids([part])))) for part in parts)


frames = st.builds(
    lambda part, camera, at, late_by, product, simulated: (part, camera, at - late_by, product, simulated),
    st.sampled_from("abc"),
    st.sampled_from(CAMERAS),
    st.integers(0, 20),
    st.sampled_from([0, 0, 0, 1, 3, 6]),
    st.sampled_from(["ring", "ring", "bracket"]),
    st.sampled_from([False, False, False, True]),
)

seeds = st.integers(0, 2**32)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Frames roughly in the order of their times; some come again, some records are of no part."""
    drawn = sorted(draw(st.lists(frames, max_size=25)), key=lambda one: one[2] + draw(st.integers(0, 2)))
    log: Log = [
        seen(part, camera, at, f"frames:0:{n}", product=product, simulated=simulated)
        for n, (part, camera, at, product, simulated) in enumerate(drawn)
    ]
    for again, behind in draw(st.lists(st.tuples(st.integers(0, 24), st.integers(1, 20)), max_size=5)):
        if again < len(log):
            log.insert(min(again + behind, len(log)), log[again])
    for place in draw(st.lists(st.integers(0, 24), max_size=4)):
        log.insert(place, "no_part_id")
    return log


@settings(derandomize=True, deadline=None, max_examples=400)
@given(logs(), seeds, st.sampled_from([0.0, 0.2, 0.4]))
def test_one_partition_gives_what_the_oracle_says_whenever_it_dies(log: Log, seed: int, deaths: float) -> None:
    assert results(Line([log], seed, deaths).run()) == Oracle(log).results()


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(logs(), min_size=2, max_size=3), seeds)
def test_of_several_partitions_each_frame_is_in_one_result_whenever_it_dies(several: list[Log], seed: int) -> None:
    """Which it is may hang on what is read first, where their times are not in order."""
    for n, log in enumerate(several):
        own = [one for one in log if isinstance(one, Seen)]
        several[n] = list(dict.fromkeys(seen_of(one, n) for one in own))
    found = ids(Line(several, seed, 0.3).run())
    assert sorted(found) == sorted(one.result_id for log in several for one in log if isinstance(one, Seen))


def seen_of(one: Seen, partition: int) -> Seen:
    return seen(one.part_id, one.camera, one.time_s, f"{one.result_id}@{partition}", product=one.product)


@pytest.mark.parametrize("span", [1, 2, 7])
@settings(derandomize=True, deadline=None, max_examples=100)
@given(log=logs(), seed=seeds)
def test_where_room_is_scarce_nothing_is_lost_either(span: int, log: Log, seed: int) -> None:
    log = list(dict.fromkeys(one for one in log if isinstance(one, Seen)))  # what is forgotten is not known again
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "SPAN", span)
        parts = Line([log], seed, 0.3).run()
    assert sorted(ids(parts)) == sorted(one.result_id for one in log if isinstance(one, Seen))
