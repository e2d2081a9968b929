"""The faults that a script can hold."""

from __future__ import annotations

import pytest

from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.transport.base import RewoundError
from quarterturn.worker.transport.memory import Fault, MemoryTransport
from tests import examples

FRAMES = [examples.frame(offset) for offset in range(4)]


def deliver(transport: MemoryTransport, count: int) -> list[int]:
    frames = transport.poll(count, 0)
    transport.deliver([examples.outcome(frame) for frame in frames])
    return [frame.position.offset for frame in frames]


def test_a_rewind_gives_every_undelivered_frame_again() -> None:
    transport = MemoryTransport([*FRAMES[:2], Fault.REWIND, *FRAMES[2:]])
    assert deliver(transport, 1) == [0]
    held = transport.poll(4, 0)
    assert [frame.position.offset for frame in held] == [1]  # no batch reaches across a fault
    ahead = transport.poll(4, 0)
    assert [frame.position.offset for frame in ahead] == [2, 3]
    assert transport.exhausted

    with pytest.raises(RewoundError, match=r"frames\[0\]@1: the script takes this delivery back"):
        transport.deliver([examples.outcome(frame) for frame in held])

    assert not transport.exhausted
    assert deliver(transport, 4) == [1, 2, 3]
    assert [outcome.position.offset for outcome in transport.outcomes] == [0, 1, 2, 3]


def test_an_outage_happens_once() -> None:
    transport = MemoryTransport([FRAMES[0], Fault.OUTAGE, FRAMES[1]])
    assert deliver(transport, 4) == [0]
    with pytest.raises(UnavailableError):
        transport.poll(4, 0)
    assert deliver(transport, 4) == [1]
    assert transport.exhausted
