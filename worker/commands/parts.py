"""`quarterturn parts`: one result for each part that several cameras see."""

from __future__ import annotations

import argparse

from quarterturn.worker.commands.options import add_config, read_config
from quarterturn.worker.runtime.parts import build_parts
from quarterturn.worker.runtime.stopping import stop_on_signal
from quarterturn.worker.settings.worker import WorkerSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and set `run` to its function."""
    parser.description = "Put the verdicts of a line's cameras together, part by part (docs/parts.md)."
    add_config(parser, "configs/worker.yaml")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`quarterturn parts`: until SIGTERM or SIGINT."""
    settings = read_config(arguments, WorkerSettings)
    with stop_on_signal(settings.drain_s) as stop, build_parts(settings) as service:
        stop.leave = service.leave
        service.run(stop)
