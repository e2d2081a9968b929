"""What every transport demands of a delivery."""

from __future__ import annotations

from collections.abc import Sequence

from quarterturn.worker.messages.events import Outcome
from quarterturn.worker.messages.frames import Position


def check_delivery(outcomes: Sequence[Outcome], polled: Sequence[Position]) -> None:
    """Refuse outcomes that are not those of the batch whose turn it is: marking them done would skip frames.

    Raises:
        ValueError: a fault of the caller.
    """
    if [outcome.position for outcome in outcomes] != list(polled):
        raise ValueError("the outcomes are not those of the oldest batch that was polled and is not delivered yet")
