"""`quarterturn`: the command line. Each command is a few lines here; its work is in the module it names."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from worker import bank_cli, camera, evaluate, probe
from worker.assemble import build
from worker.config import WorkerSettings
from worker.contract.errors import ConfigError, QuarterturnError
from worker.doctor import cli as doctor
from worker.memory import keep_freed_memory
from worker.options import add_config, read_config

log = logging.getLogger(__name__)


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


def run_worker(arguments: argparse.Namespace) -> None:
    """`quarterturn run`: inspect frames until SIGTERM or SIGINT, or the end of a folder."""
    settings = read_config(arguments, WorkerSettings)
    with _stop_on_signal(settings.drain_s) as stop, build(settings) as service:
        service.run(stop)


def train_model(arguments: argparse.Namespace) -> None:
    """`quarterturn train`: learn an encoder from good pictures."""
    with _needs_extra("train"):
        from trainer.config import TrainSettings
        from trainer.train import train
    train(read_config(arguments, TrainSettings))


def build_engine(arguments: argparse.Namespace) -> None:
    """`quarterturn build`: compile a model into an engine."""
    from engine_build.build import build as build_engine_folder
    from engine_build.config import BuildSettings

    if arguments.target:
        arguments.overrides.append(f"targets=[{arguments.target}]")
    build_engine_folder(read_config(arguments, BuildSettings))


def run_demo(arguments: argparse.Namespace) -> None:
    """`quarterturn demo`: the whole way on one machine."""
    with _needs_extra("train"):
        from demo import line
    line.run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quarterturn", description="Streaming anomaly detection for inspection lines; learns from good parts only."
    )
    parser.add_argument("--version", action="version", version=importlib.metadata.version("quarterturn"))
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = commands.add_parser("train", help="learn an encoder from pictures of good parts")
    add_config(command, "configs/train.yaml")
    command.set_defaults(run=train_model)

    command = commands.add_parser("build", help="compile a model into an engine")
    add_config(command, "configs/build.yaml")
    command.add_argument("--target", metavar="NAME", help="short for --set targets=[NAME]")
    command.set_defaults(run=build_engine)

    command = commands.add_parser("bank", help="fit, push, list, show and roll back feature banks")
    bank_cli.add_arguments(command)

    command = commands.add_parser("run", help="inspect frames and publish verdicts and alerts")
    add_config(command, "configs/worker.yaml")
    command.set_defaults(run=run_worker)

    command = commands.add_parser("doctor", help="say whether this machine can run the line, and what to mend")
    doctor.add_arguments(command)

    command = commands.add_parser("camera", help="publish a folder of pictures or a video as frames")
    camera.add_arguments(command)

    command = commands.add_parser("evaluate", help="score a labelled folder and write a report")
    evaluate.add_arguments(command)

    command = commands.add_parser("probe", help="ask whether something trivial separates a folder's good from bad")
    probe.add_arguments(command)

    command = commands.add_parser("demo", help="train, build, fit, stream and report in one go")
    add_config(command, "configs/demo.yaml")
    command.add_argument("--data", type=Path, metavar="DIR", help="real pictures; without it, parts are rendered")
    command.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR", help="default: %(default)s")
    command.add_argument("--kafka", metavar="HOST:PORT", help="stream through this broker instead of a folder")
    command.add_argument("--redis", metavar="URL", help="keep the bank in this Redis instead of a folder")
    command.set_defaults(run=run_demo)
    return parser


@contextmanager
def _needs_extra(extra: str) -> Iterator[None]:
    """Turn a missing optional package into a sentence that says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"this command needs the package '{error.name}'; install it with: pip install 'quarterturn[{extra}]'"
        ) from error


@contextmanager
def _stop_on_signal(drain_s: float) -> Iterator[threading.Event]:
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
