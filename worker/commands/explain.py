"""`quarterturn explain`: why a frame was judged as it was."""

from __future__ import annotations

import argparse
import json
import re
import sys
from contextlib import closing
from pathlib import Path

from rich.console import Console

from quarterturn.worker.commands.options import add_config, read_config
from quarterturn.worker.contract.errors import ConfigError, DataError
from quarterturn.worker.contract.swap import require_writable
from quarterturn.worker.explain.page import write_explanation
from quarterturn.worker.explain.results import Line
from quarterturn.worker.explain.terminal import page
from quarterturn.worker.messages.events import RESULT_ID, result_id_in
from quarterturn.worker.runtime.assemble import open_engine, open_store
from quarterturn.worker.settings.worker import WorkerSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and set `run` to its function."""
    add_config(parser, "configs/worker.yaml")
    parser.add_argument(
        "what", metavar="RESULT_ID|FILE", help="the resultId of a verdict, or a picture to judge by the active bank"
    )
    parser.add_argument("--camera", metavar="NAME", help="of a FILE: whose settings apply; default: those of the bank")
    parser.add_argument("--product", metavar="NAME", help="of a FILE: what it shows; default: what the camera may show")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with the pictures")
    parser.add_argument("--json", action="store_true", help="print the explanation as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`quarterturn explain`: print the explanation, and write the page where `--html` names one."""
    settings = read_config(arguments, WorkerSettings)
    if arguments.html:
        require_writable(arguments.html, "--html")
    file, result_id = Path(arguments.what), result_id_in(arguments.what)
    is_file = file.is_file()
    if not is_file and re.fullmatch(RESULT_ID, result_id) is None:
        raise DataError(f"{arguments.what}: is neither a picture file nor the resultId of a verdict; correct it")
    if not is_file and (arguments.camera or arguments.product):
        raise ConfigError(f"--camera and --product are of a picture FILE; the verdict of {arguments.what} names both")
    with closing(open_engine(settings.engine)) as engine, closing(open_store(settings.bank)) as store:
        line = Line(settings, engine, store)
        found = line.file(file, arguments.camera, arguments.product) if is_file else line.result(result_id)
    if arguments.json:
        sys.stdout.write(json.dumps(found.to_json(), indent=2) + "\n")
    else:
        console = Console(markup=False, highlight=False)
        for what in page(found):
            console.print(what, soft_wrap=False)
    if arguments.html:
        write_explanation(found, arguments.html)
