"""`quarterturn doctor`: gather all checks, print them, and say by the exit code whether the line can run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from rich.console import Console
from rich.text import Text

from quarterturn.worker.commands.options import add_config, read_config
from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.doctor import line, machine, nvidia, pictures
from quarterturn.worker.doctor.check import Check, gather, masked
from quarterturn.worker.settings.worker import WorkerSettings

_COLOURS = {"ok": "green", "warning": "yellow", "failure": "bold red", "skipped": "dim"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and set `run` to its function."""
    add_config(parser, "configs/worker.yaml")
    parser.add_argument("--json", action="store_true", help="for scripts: one JSON object instead of lines")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """`quarterturn doctor`: 0 if nothing keeps this machine from running the line (warnings do not), else 1."""
    with Console(stderr=True).status("looking at this machine and its services"):
        checks = [masked(check) for check in examine(arguments)]
    ready = all(check.status != "failure" for check in checks)
    console = Console(markup=False, highlight=False)
    if arguments.json:
        document = {"ready": ready, "checks": [asdict(check) for check in checks]}
        console.print(json.dumps(document, indent=2), soft_wrap=True)
    else:
        _print(console, checks, ready)
    return 0 if ready else 1


def examine(arguments: argparse.Namespace) -> list[Check]:
    """All checks; those of Python alone where the settings cannot be read."""
    try:
        settings = read_config(arguments, WorkerSettings)
    except ConfigError as error:
        return [Check("settings", "failure", str(error)), machine.python()]
    return [
        Check("settings", "ok", f"{arguments.config}, line {settings.line}"),
        machine.python(),
        *gather(
            {
                "disk": partial(machine.disks, settings),
                "http": partial(machine.http, settings.http),
                "GPU": partial(nvidia.checks, settings.engine.target),
                "engine and bank": partial(line.engine_and_bank, settings),
                "frames": partial(line.frames, settings.transport),
                "parts": partial(line.parts, settings),
                "pictures": partial(pictures.first_pictures, settings),
            }
        ),
    ]


def _print(console: Console, checks: Sequence[Check], ready: bool) -> None:
    """A line for each check, and one more for what mends it; none is broken, so that commands can be copied."""
    width = max(len(check.name) for check in checks)
    for check in checks:
        status = Text(f"{check.status:9}", style=_COLOURS[check.status])
        console.print(status, f"{check.name:{width}}  {check.found}", sep="", soft_wrap=True)
        if check.fix:
            console.print(f"{'':9}{'':{width}}  -> {check.fix}", soft_wrap=True)
    counts = {status: sum(check.status == status for check in checks) for status in ("failure", "warning")}
    told = ", ".join(f"{count} {status}{'s' * (count > 1)}" for status, count in counts.items() if count)
    verdict = "this machine can run the line" if ready else "this machine cannot run the line yet"
    console.print(f"{verdict}{': ' + told if told else ''}", soft_wrap=True)
