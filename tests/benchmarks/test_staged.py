"""Processor time by stage; ticks of the system are 10 ms, so much is allowed."""

from __future__ import annotations

import threading
import time

import pytest

from benchmarks import staged


def burn(seconds: float) -> None:
    until_s = time.thread_time() + seconds
    while time.thread_time() < until_s:
        pass


def test_calls_are_their_stage_and_not_their_threads() -> None:
    clock = staged.Clock()
    decode = clock.time("decode", burn)
    before = clock.read()

    def work() -> None:
        decode(0.2)
        burn(0.1)
        waiting.set()
        released.wait()

    waiting, released = threading.Event(), threading.Event()
    thread = threading.Thread(target=work, name="decode_7")
    thread.start()
    waiting.wait()
    after = clock.read()
    released.set()
    thread.join()
    assert after["decode"] - before.get("decode", 0.0) == pytest.approx(0.2, abs=0.01)
    assert after["measure"] - before.get("measure", 0.0) == pytest.approx(0.1, abs=0.03)


def test_what_fails_has_taken_its_time() -> None:
    clock = staged.Clock()

    def fail() -> None:
        burn(0.05)
        raise ValueError("no frame")

    with pytest.raises(ValueError, match="no frame"):
        clock.time("fetch", fail)()
    assert clock.read()["fetch"] == pytest.approx(0.05, abs=0.02)
