"""`quarterturn run` that strikes itself at a chosen step. The fail-points are here; the product has none.

    QUARTERTURN_STRIKE=KILL:offsets_sent:12 python -m tests.chaos.victim run --config worker.yaml

sends itself SIGKILL when it passes the step `offsets_sent` for the twelfth time.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

VARIABLE = "QUARTERTURN_STRIKE"

STEPS = {
    "polled": "after poll",
    "decoded": "after decode",
    "scored": "after scoring",
    "records_sent": "in the transaction, before the offsets",
    "offsets_sent": "in the transaction, after the offsets",
    "confirmed": "in the transaction, before the commit",
    "committed": "after the commit",
}


def main(arguments: list[str]) -> int:
    from quarterturn.worker.commands.main import main as quarterturn

    if strike := os.environ.get(VARIABLE):
        name, step, passage = strike.split(":")
        arm(step, int(passage), functools.partial(os.kill, os.getpid(), signal.Signals[f"SIG{name}"]))
    return quarterturn(arguments)


def arm(step: str, passage: int, strike: Callable[[], None]) -> None:
    """Call `strike` at the given passage of `step`, counted from 1."""
    from kafka.protocol.producer import TxnOffsetCommitRequest

    from quarterturn.worker.inspection.inspector import Inspector
    from quarterturn.worker.transport.kafka.transactions import Transactions
    from quarterturn.worker.transport.kafka.transport import KafkaTransport

    passed = 0

    def passes(result: object = True) -> bool:
        nonlocal passed
        passed += result != []  # a poll without frames is none
        return passed == passage

    def after(owner: type, method: str) -> None:
        original = getattr(owner, method)

        @functools.wraps(original)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            result = original(*arguments, **named)
            if passes(result):
                strike()
            return result

        setattr(owner, method, wrapped)

    def after_journey(owner: type, method: str) -> None:
        original = getattr(owner, method)

        @functools.wraps(original)
        async def wrapped(*arguments: Any, **named: Any) -> None:
            await original(*arguments, **named)
            if passes():
                strike()

        setattr(owner, method, wrapped)

    def between(owner: type, method: str, positions_first: bool) -> None:
        """Records and positions, which travel together, one after the other: the strike is when one has arrived."""
        original = getattr(owner, method)

        @functools.wraps(original)
        async def wrapped(self: Any, *questions: tuple[Any, Any]) -> Any:
            ordered = sorted(questions, key=lambda one: isinstance(one[1], TxnOffsetCommitRequest) != positions_first)
            if not any(isinstance(request, TxnOffsetCommitRequest) for _, request in questions):
                return await original(self, *questions)
            answers = await original(self, ordered[0])
            if passes():
                strike()
            return answers + await original(self, *ordered[1:])

        setattr(owner, method, wrapped)

    places: dict[str, tuple[Callable[[type, str], None], type, str]] = {
        "polled": (after, KafkaTransport, "poll"),
        "decoded": (after, Inspector, "_prepare"),
        "scored": (after, Inspector, "_score"),
        "records_sent": (functools.partial(between, positions_first=False), Transactions, "_ask"),
        "offsets_sent": (functools.partial(between, positions_first=True), Transactions, "_ask"),
        "confirmed": (after_journey, Transactions, "store"),
        "committed": (after_journey, Transactions, "commit"),
    }
    wrap, owner, method = places[step]
    wrap(owner, method)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
