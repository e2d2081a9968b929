"""`quarterturn run`: inspect frames and publish verdicts and alerts."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from quarterturn.worker.runtime.assemble import build_service
from quarterturn.worker.settings.options import add_config, read_config
from quarterturn.worker.settings.worker import WorkerSettings

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and set `run` to its function."""
    add_config(parser, "configs/worker.yaml")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`quarterturn run`: until SIGTERM or SIGINT, or the end of a folder."""
    settings = read_config(arguments, WorkerSettings)
    with stop_on_signal(settings.drain_s) as stop, build_service(settings) as service:
        service.run(stop)


@contextmanager
def stop_on_signal(drain_s: float) -> Iterator[threading.Event]:
    """An event that SIGTERM or SIGINT sets. The process is left at the second signal, or `drain_s` after the first.

    Leaving hard is safe: whatever was not delivered is not marked as done either.
    """
    stop = threading.Event()

    def leave() -> None:
        log.error("not drained within %g s; leaving, the open frames will be polled again", drain_s)
        os._exit(1)

    deadline = threading.Timer(drain_s, leave)
    deadline.daemon = True

    def handle(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        log.info("%s: draining, at most %g s", signal.Signals(number).name, drain_s)
        stop.set()
        deadline.start()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        deadline.cancel()
        for number, handler in previous.items():
            signal.signal(number, handler)
