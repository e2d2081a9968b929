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
    from quarterturn.worker.inspection.inspector import Inspector
    from quarterturn.worker.transport.kafka.producer import KafkaProducer
    from quarterturn.worker.transport.kafka.transport import KafkaTransport

    passed = 0

    def passes(result: object = True) -> bool:
        nonlocal passed
        passed += result != []  # a poll without frames is none
        return passed == passage

    def before(owner: type, method: str) -> None:
        original = getattr(owner, method)

        @functools.wraps(original)
        def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
            if passes():
                self.flush()  # what was sent is on the broker: the harder case
                strike()
            return original(self, *arguments, **named)

        setattr(owner, method, wrapped)

    def after(owner: type, method: str) -> None:
        original = getattr(owner, method)

        @functools.wraps(original)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            result = original(*arguments, **named)
            if passes(result):
                strike()
            return result

        setattr(owner, method, wrapped)

    places: dict[str, tuple[Callable[[type, str], None], type, str]] = {
        "polled": (after, KafkaTransport, "poll"),
        "decoded": (after, Inspector, "prepare"),
        "scored": (after, Inspector, "score"),
        "records_sent": (before, KafkaProducer, "send_offsets_to_transaction"),
        "offsets_sent": (after, KafkaProducer, "send_offsets_to_transaction"),
        "confirmed": (before, KafkaProducer, "commit_transaction"),
        "committed": (after, KafkaProducer, "commit_transaction"),
    }
    wrap, owner, method = places[step]
    wrap(owner, method)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
