"""How a program that runs for long is stopped: at a signal it ends its work, at the second it is left."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

_LEAVE_S = 3.0  # for leaving the group; a broker that is gone finds out by itself


class Stop(threading.Event):
    """Set when the work is to end; `leave` is called before the process is left in the middle of it."""

    leave: Callable[[], None] = staticmethod(lambda: None)


@contextmanager
def stop_on_signal(drain_s: float) -> Iterator[Stop]:
    """What SIGTERM or SIGINT sets. The process is left at the second signal, or `drain_s` after the first.

    Leaving hard is safe: whatever was not delivered is not marked as done either.
    """
    stop = Stop()
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    previous = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    # A thread hears of them: the main one may be in an engine's own code, where no handler of Python's runs.
    before = signal.set_wakeup_fd(sender.fileno())
    thread = threading.Thread(target=_listen, args=(receiver, stop, drain_s), name="signals", daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in previous.items():
            signal.signal(number, handler)
        sender.close()  # ends the thread
        thread.join()
        receiver.close()


def _listen(signals: socket.socket, stop: Stop, drain_s: float) -> None:
    """Each signal is a byte on the socket; its end is the end of the work."""
    first = signals.recv(1)
    if not first:
        return
    log.info("%s: draining, at most %g s", signal.Signals(first[0]).name, drain_s)
    stop.set()
    signals.settimeout(drain_s)
    try:
        second = signals.recv(1)
    except TimeoutError:
        log.error("not drained within %g s; leaving, the open frames will be polled again", drain_s)
        _leave(stop, code=1)
    else:
        if second:
            log.warning("%s again: leaving, the open frames will be polled again", signal.Signals(second[0]).name)
            _leave(stop, code=128 + second[0])


def _leave(stop: Stop, code: int) -> None:
    """Leave the group, so that others take over at once, and then the process, whatever its other threads do."""

    def leave() -> None:
        try:
            stop.leave()
        except Exception as error:  # noqa: BLE001 - a thread's boundary: the process ends anyway
            log.warning("the group was not left (%s); it waits for transport.kafka.session_timeout_s", error)

    leaving = threading.Thread(target=leave, daemon=True)
    leaving.start()
    leaving.join(_LEAVE_S)
    if leaving.is_alive():
        log.warning("the group was not left within %g s; it waits for transport.kafka.session_timeout_s", _LEAVE_S)
    os._exit(code)
