"""`quarterturn console`: the page of the people at the line."""

from __future__ import annotations

import argparse
import logging

from quarterturn.worker.commands.options import add_config, needs_extra, read_config
from quarterturn.worker.runtime.stopping import stop_on_signal
from quarterturn.worker.settings.worker import WorkerSettings

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and set `run` to its function."""
    add_config(parser, "configs/worker.yaml")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`quarterturn console`: until SIGTERM or SIGINT."""
    settings = read_config(arguments, WorkerSettings)
    with needs_extra("console"):
        from quarterturn.worker.console.server import ConsoleServer
    with stop_on_signal(settings.drain_s) as stop, ConsoleServer(settings) as server:
        log.info("line %s: the page is at %s", settings.line, server.url)
        stop.wait()
