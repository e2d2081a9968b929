"""What commands have in common: a settings file with what is laid over it, and extras that may be missing."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.settings import Settings, load_settings

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
        help="override one setting, for example --set overkill=0.01, as the variable QUARTERTURN_OVERKILL does; "
        "may be repeated",
    )


def add_fit(parser: argparse.ArgumentParser) -> None:
    """Add `--fit FILE`: the settings that name the pictures of the line's bank."""
    parser.add_argument(
        "--fit",
        type=Path,
        default=Path("configs/bank.yaml"),
        metavar="FILE",
        help="the settings that the line's bank was fitted by; default: %(default)s",
    )


def read_config(arguments: argparse.Namespace, model: type[S]) -> S:
    """The settings that `arguments` and the environment name.

    Raises:
        ConfigError: the file, a variable or an override does not fit `model`.
    """
    return load_settings(arguments.config, model, arguments.overrides, os.environ)


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn a missing optional package into a sentence that says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"this command needs the package '{error.name}'; install it with: pip install 'quarterturn[{extra}]'"
        ) from error
