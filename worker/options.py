"""The command line's common options: a settings file and overrides laid over it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeVar

from worker.contract.settings import Settings, load_settings

S = TypeVar("S", bound=Settings)


def add_config(parser: argparse.ArgumentParser, default: str) -> None:
    """Add `--config FILE` and `--set KEY=VALUE`."""
    parser.add_argument("--config", type=Path, default=Path(default), metavar="FILE", help="default: %(default)s")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override one setting, for example --set overkill=0.01; may be repeated",
    )


def read_config(arguments: argparse.Namespace, model: type[S]) -> S:
    """The settings that `arguments` name.

    Raises:
        ConfigError: the file or an override does not fit `model`.
    """
    return load_settings(arguments.config, model, arguments.overrides)
