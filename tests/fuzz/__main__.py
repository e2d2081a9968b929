"""Coverage-guided fuzzing with atheris: `make fuzz`, or `python -m tests.fuzz [SECONDS for each target] [TARGET ...]`.

Inputs that reach new code are kept in out/fuzz/TARGET and start the next run; an input that breaks a target is written
to out/fuzz/TARGET-crash-*, and belongs into tests/hostile.py.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

OUT = Path("out/fuzz")
LIMITS = (
    "-rss_limit_mb=2048",
    "-timeout=60",
    "-max_len=8192",
    "-print_final_stats=1",
    "-verbosity=0",
    "-close_fd_mask=2",
)


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target in this process, which then ends."""
    import atheris

    with atheris.instrument_imports(include=["quarterturn", "yaml", "pydantic", "safetensors"]):
        target = importlib.import_module("tests.fuzz.targets").TARGETS[name]
    corpus = OUT / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = (*LIMITS, f"-max_total_time={seconds}", f"-artifact_prefix={OUT}/{name}-")
    atheris.Setup([sys.argv[0], *limits, str(corpus)], target.run)
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    """Fuzz each target in a process of its own; the exit code says whether one broke."""
    seconds, names = (arguments[0] if arguments else "300"), arguments[1:]
    if len(names) == 1:
        fuzz(names[0], int(seconds))
    names = names or list(importlib.import_module("tests.fuzz.targets").TARGETS)
    codes = [
        subprocess.run([sys.executable, "-m", "tests.fuzz", seconds, name], check=False).returncode for name in names
    ]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
