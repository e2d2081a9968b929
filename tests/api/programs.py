"""Programs that run until they are told to stop."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from tests.api.plant import ENVIRONMENT

TIMEOUT_S = 90.0


class Program:
    """One that runs, and the lines that it writes to one of its outputs."""

    def __init__(self, process: subprocess.Popen[str], output: IO[str]) -> None:
        self._process, self._output = process, output
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def lines(self, count: int) -> list[str]:
        """The next lines; fails if they do not come in time."""
        return [self._lines.get(timeout=TIMEOUT_S) for _ in range(count)]

    def stop(self, number: signal.Signals = signal.SIGINT) -> list[str]:
        """Send Ctrl-C, expect a good end; returns the lines that nobody asked for."""
        self._process.send_signal(number)
        return self.ended(0)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Let it do nothing, until `thaw`."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def ended(self, code: int) -> list[str]:
        """Expect that it ends with this exit code; returns the lines that nobody asked for."""
        assert self._process.wait(timeout=45) == code
        self._reader.join()
        return [self._lines.get() for _ in range(self._lines.qsize() - 1)]

    def _read(self) -> None:
        for line in self._output:
            self._lines.put(line.rstrip("\n"))
        self._lines.put("it ended")  # so that nobody waits for more


@contextmanager
def program(command: Sequence[str], errors: bool = False, **environment: str) -> Iterator[Program]:
    """It runs until the end of the block; its lines are those of stdout, or of stderr where `errors` says so."""
    pipe = {"stderr" if errors else "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env={**ENVIRONMENT, **environment}, **pipe) as process:
        output = process.stderr if errors else process.stdout
        assert output is not None
        try:
            yield Program(process, output)
        finally:
            process.kill()
