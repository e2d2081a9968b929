"""Processes of their own, and the signals that they get."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("signals", [1, 2])
def test_signals(signals: int) -> None:
    """The first signal lets the work end, the second leaves at once."""
    script = """
import signal, sys, time
from quarterturn.worker.runtime.stopping import stop_on_signal
with stop_on_signal(drain_s=60) as stop:
    print("ready", flush=True)
    assert stop.wait(60)
    print("stopping", flush=True)
    if sys.argv[1] == "2":
        time.sleep(60)
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
print("drained", flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(signals)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    with process, process.stdout:
        for expected in ("ready", "stopping")[:signals]:
            assert process.stdout.readline().strip() == expected
            process.send_signal(signal.SIGTERM)
        rest = process.stdout.read().split()
    assert (rest, process.returncode) == ((["stopping", "drained"], 0) if signals == 1 else ([], 128 + signal.SIGTERM))


def test_the_drain_has_a_deadline() -> None:
    script = """
import time
from quarterturn.worker.runtime.stopping import stop_on_signal
with stop_on_signal(drain_s=0.2):
    print("ready", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 1
