"""What every transport offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from quarterturn.worker.messages.events import Outcome
from quarterturn.worker.messages.frames import Frame


class RewoundError(Exception):
    """The delivery was taken back as a whole: the transport will give the undelivered frames again.

    Raised by `deliver`. The service drops every batch that it holds and polls again.
    """


class Transport(Protocol):
    """Frames in, outcomes out. One thread calls it."""

    @property
    def exhausted(self) -> bool:
        """Whether no frame will ever come again (a folder at its end); a stream is never exhausted."""
        ...

    def poll(self, max_frames: int, timeout_s: float) -> list[Frame]:
        """Up to `max_frames` waiting frames, in order per partition; waits at most `timeout_s` for the first.

        Raises:
            UnavailableError: the source is gone for longer than the transport bridges by itself.
        """
        ...

    def deliver(self, outcomes: Sequence[Outcome]) -> None:
        """Publish the outcomes of one polled batch and mark its frames as done: atomically where the transport can.

        Batches are delivered in the order they were polled.

        Raises:
            RewoundError: nothing was delivered, the frames will be polled again.
            UnavailableError: the sink is gone for longer than the transport bridges by itself.
        """
        ...

    def close(self) -> None:
        """Release connections and files; may be called twice. Undelivered frames stay undone."""
        ...
