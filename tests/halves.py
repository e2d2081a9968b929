"""The whole suite as two processes side by side: `python -m tests.halves [OPTIONS OF PYTEST]`, as `make test` runs it.

Tests that need servers wait most of the time, the others compute all of it. One process has the servers, so each server
is started once, and no two tests that ask it run at a time; the other process takes what is left of the cores.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence

NO_TESTS = 5
"""pytest's exit code where nothing is left to run, as in one half when a single file is asked for."""
_YIELDING = ("nice", "-n", "10")
_CACHE = ("-o", "cache_dir=.pytest_cache/others")  # so that `--lf` means in each half what failed there


def main(arguments: Sequence[str]) -> int:
    """Run both, and show what they say, one after the other; returns 0 where all tests passed."""
    with tempfile.TemporaryFile() as said:
        others = subprocess.Popen(
            [*_YIELDING, *_pytest("not server", *_CACHE, *arguments)], stdout=said, stderr=subprocess.STDOUT
        )
        codes = {_end(subprocess.Popen(_pytest("server", *arguments))), _end(others)}
        said.seek(0)
        print(said.read().decode(errors="replace"), flush=True)
    return int(codes == {NO_TESTS} or not codes <= {0, NO_TESTS})


def _pytest(marks: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-m", marks, *arguments]


def _end(process: subprocess.Popen[bytes]) -> int:
    """Its exit code, also after a Ctrl-C: it has heard that, too, and tidies up."""
    while process.poll() is None:
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
