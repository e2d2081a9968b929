"""`quarterturn init`: writes a set of settings to start a line from, as they are shipped."""

from __future__ import annotations

import argparse
import importlib.resources
import os
import shlex
from pathlib import Path

from rich.console import Console

from quarterturn.worker.contract.errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's argument, and set `run` to its function."""
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), metavar="DIR", help="default: this folder")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`quarterturn init`: the package's `configs/` -> DIR/configs/, where the other commands look for them.

    Raises:
        DataError: a file is there already (then none is written), or one cannot be written.
    """
    folder: Path = arguments.folder / "configs"
    shipped = importlib.resources.files("quarterturn") / "configs"
    texts = {folder / one.name: one.read_bytes() for one in shipped.iterdir() if one.name.endswith(".yaml")}
    for path in sorted(texts):
        if os.path.lexists(path):
            raise DataError(f"{path}: is there already and is not overwritten; move it away, or name another folder")
    for path in sorted(texts):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(texts[path])
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}); name another folder") from error
    _say_what_is_next(arguments.folder, sorted(path.name for path in texts))


def _say_what_is_next(folder: Path, names: list[str]) -> None:
    console = Console(markup=False, highlight=False)
    console.print(f"wrote {', '.join(names)} to {folder / 'configs'}", soft_wrap=True)
    first = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))}, "
    console.print(
        f"next: {first}put pictures of good parts into pictures/ (or name their folder in configs/train.yaml and "
        "configs/bank.yaml), then: quarterturn train",
        soft_wrap=True,
    )
