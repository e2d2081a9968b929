"""`quarterturn`: the command line. Each command has a file of its own here; its work is in the modules it names."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import signal
import sys
from collections.abc import Sequence
from types import ModuleType

from quarterturn.worker.commands import (
    bank,
    build,
    camera,
    console,
    demo,
    doctor,
    evaluate,
    explain,
    feedback,
    init,
    parts,
    probe,
    run,
    silence,
    train,
)
from quarterturn.worker.contract.errors import QuarterturnError
from quarterturn.worker.runtime.memory import keep_freed_memory

log = logging.getLogger(__name__)

_COMMANDS: dict[ModuleType, str] = {
    init: "write a set of settings to start a line from",
    train: "learn an encoder from pictures of good parts",
    build: "compile a model into an engine",
    bank: "fit, push, list, show, teach, compare and roll back feature banks",
    run: "inspect frames and publish verdicts and alerts",
    parts: "put the verdicts of several cameras together, part by part",
    doctor: "say whether this machine can run the line, and what to mend",
    console: "serve the page on which people watch the line and review alerts",
    feedback: "say what a part really is, for the bank to learn",
    camera: "publish a folder of pictures or a video as frames",
    silence: "hold the alerts of a camera or product for a while",
    evaluate: "score a labelled folder and write a report",
    explain: "say why a frame was judged as it was",
    probe: "ask whether something trivial separates a folder's good from bad",
    demo: "train, build, fit, stream and report in one go",
}
"""Called as their files are, in the order of a line's life."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Faults are printed as one sentence, never as a traceback."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    keep_freed_memory()
    try:
        code: int | None = arguments.run(arguments)
    except QuarterturnError as error:
        print(f"quarterturn: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:  # the last door: a sentence for the user, the traceback for the log
        log.debug("unexpected error", exc_info=True)
        print(  # noqa: T201
            f"quarterturn: unexpected {type(error).__name__}: {error}; run again with --log-level debug and report it",
            file=sys.stderr,
        )
        return 1
    return code or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quarterturn", description="Streaming anomaly detection for inspection lines; learns from good parts only."
    )
    parser.add_argument("--version", action="version", version=importlib.metadata.version("quarterturn"))
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module, purpose in _COMMANDS.items():
        module.add_arguments(commands.add_parser(module.__name__.rpartition(".")[2], help=purpose))
    return parser
