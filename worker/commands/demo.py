"""`quarterturn demo`: the whole way on one machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from quarterturn.worker.commands.options import add_config, needs_extra


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and set `run` to its function."""
    add_config(parser, "configs/demo.yaml")
    parser.add_argument("--data", type=Path, metavar="DIR", help="real pictures; without it, parts are rendered")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="stream through this broker instead of a folder")
    parser.add_argument("--redis", metavar="URL", help="keep the bank in this Redis instead of a folder")
    parser.add_argument(
        "--story", action="store_true", help="instead: a new gloss comes, an operator says so, the line learns"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`quarterturn demo`: render or take parts, train, build, fit, stream, report; or tell a story."""
    with needs_extra("train"):
        from quarterturn.demo import line, story
    (story if arguments.story else line).run(arguments)
