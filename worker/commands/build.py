"""`quarterturn build`: compile a model into an engine."""

from __future__ import annotations

import argparse

from quarterturn.worker.commands.options import add_config, read_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and set `run` to its function."""
    add_config(parser, "configs/build.yaml")
    parser.add_argument("--target", metavar="NAME", help="short for --set targets=[NAME]")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`quarterturn build`: a model folder -> an engine folder."""
    from quarterturn.engine_build.build import build
    from quarterturn.engine_build.config import BuildSettings

    if arguments.target:
        arguments.overrides.append(f"targets=[{arguments.target}]")
    build(read_config(arguments, BuildSettings))
