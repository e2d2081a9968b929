"""`quarterturn probe`: does something trivial separate a set's good from its bad pictures?"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.progress import Progress

from quarterturn.worker.contract.picture import BitDepth
from quarterturn.worker.evaluation.probe.probe import confounder_table, probe, probe_json, probe_sentences


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and set `run` to its function."""
    parser.add_argument("data", type=Path, metavar="DATA", help="labelled pictures, see docs/data.md")
    parser.add_argument(
        "--bit-depth",
        type=int,
        choices=get_args(BitDepth),
        help="bits that are used of samples in 16-bit files, as in train.yaml; default: all 16",
    )
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`quarterturn probe`: print the confounders and what is to be thought of them."""
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("probing", total=None)
        found = probe(
            arguments.data,
            bit_depth=arguments.bit_depth,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if arguments.json:
        sys.stdout.write(json.dumps(probe_json(found), indent=2) + "\n")
        return
    console = Console(markup=False, highlight=False)
    for one in found.products:
        console.print(confounder_table(one))
    for sentence in probe_sentences(found):
        console.print(sentence, soft_wrap=True)
