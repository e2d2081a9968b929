"""Frames from a list, outcomes into a list: for tests of everything above a transport, and for embedding the worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum

from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.messages.events import Event, Outcome, events_of
from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.transport.base import RewoundError
from quarterturn.worker.transport.batch import check_delivery


class Fault(Enum):
    """What can go wrong between two frames of a script; each happens once."""

    REWIND = "the next delivery is taken back"
    OUTAGE = "the source is gone for too long"


class MemoryTransport:
    """Plays a script of frames and faults; `outcomes` holds what was delivered, in order.

    A batch never reaches across a fault.
    """

    def __init__(self, script: Iterable[Frame | Fault]) -> None:
        self.outcomes: list[Outcome] = []
        self._script = deque(script)
        self._undelivered: deque[list[Frame]] = deque()
        self._rewind_next = False

    @property
    def events(self) -> list[Event]:
        """The CloudEvents of all outcomes delivered."""
        return [event for outcome in self.outcomes for event in events_of(outcome)]

    @property
    def exhausted(self) -> bool:
        """Whether the script has been played; a rewind puts frames back into it."""
        return not self._script

    def poll(self, max_frames: int, timeout_s: float) -> list[Frame]:
        """See Transport; never waits."""
        frames: list[Frame] = []
        while self._script and len(frames) < max_frames:
            if isinstance(item := self._script[0], Frame):
                frames.append(item)
            elif frames:
                break
            elif item is Fault.OUTAGE:
                self._script.popleft()
                raise UnavailableError("memory: the script has an outage here")
            else:
                self._rewind_next = True
            self._script.popleft()
        if frames:
            self._undelivered.append(frames)
        return frames

    def deliver(self, outcomes: Sequence[Outcome]) -> None:
        """See Transport."""
        batch = self._undelivered[0]
        check_delivery(outcomes, [frame.position for frame in batch])
        if self._rewind_next:
            self._rewind_next = False
            self._script.extendleft(reversed([frame for frames in self._undelivered for frame in frames]))
            self._undelivered.clear()
            raise RewoundError(f"{batch[0].position}: the script takes this delivery back")
        self._undelivered.popleft()
        self.outcomes.extend(outcomes)

    def close(self) -> None:
        """See Transport; nothing to release."""
