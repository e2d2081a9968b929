"""`quarterturn run`: inspect frames and publish verdicts and alerts."""

from __future__ import annotations

import argparse

from quarterturn.worker.commands.options import add_config, read_config
from quarterturn.worker.runtime.assemble import build_service
from quarterturn.worker.runtime.memory import keep_from_collection
from quarterturn.worker.runtime.stopping import stop_on_signal
from quarterturn.worker.settings.worker import WorkerSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and set `run` to its function."""
    add_config(parser, "configs/worker.yaml")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`quarterturn run`: until SIGTERM or SIGINT, or the end of a folder."""
    settings = read_config(arguments, WorkerSettings)
    with stop_on_signal(settings.drain_s) as stop, build_service(settings) as service:
        stop.leave = service.leave
        keep_from_collection()
        service.run(stop)
