"""What every transport offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from quarterturn.worker.messages.events import Outcome
from quarterturn.worker.messages.frames import Frame


class RewoundError(Exception):
    """The delivery was taken back as a whole: the transport will give the undelivered frames again.

    Raised by `deliver`. The service drops every batch that it holds and polls again.
    """


@dataclass(frozen=True, slots=True)
class Standing:
    """How a transport stands with those it shares its frames with.

    Attributes:
        name: what it is called in `/healthz` and metrics; empty: it is not shown there.
        state: "ok" while frames come as they should, else a sentence on what is waited for.
        assigned: how many partitions are read here: 0 for a worker that stands by; None: not told, or not known yet.
        lag: how many frames wait to be polled, by partition, as far as it is known.
    """

    name: str = ""
    state: str = "ok"
    assigned: int | None = None
    lag: Mapping[str, int] = field(default_factory=dict)


class Transport(Protocol):
    """Frames in, outcomes out. One thread calls it.

    A transport whose source may be away, or is shared by several workers, also has a property `standing: Standing` and
    a method `leave()`, which gives its share to the others at once; both are for any thread. One without is always
    ready.
    """

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


def standing_of(transport: object) -> Standing:
    """How `transport` stands; one that does not say so is ready."""
    standing: Standing = getattr(transport, "standing", _ALONE)
    return standing


def leave(transport: Transport) -> None:
    """Have `transport` leave those that it shares frames with, if there are any. Any thread may call it."""
    if hasattr(transport, "leave"):
        transport.leave()


_ALONE = Standing()
