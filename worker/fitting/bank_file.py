"""A bank as a file of its own, on its way from `quarterturn bank fit` to a store."""

from __future__ import annotations

from pathlib import Path

from quarterturn.worker.contract.bank import Bank, read_bank
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.swap import unwritable, writing


def write_bank_file(path: Path, bank: Bank) -> None:
    """Write the bank to `path`, whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        with writing(path) as aside:
            aside.write_bytes(bank.blob)
    except OSError as error:
        raise unwritable(path, "'out'", error) from error


def read_bank_file(path: Path) -> Bank:
    """The bank in the file at `path`.

    Raises:
        DataError: it cannot be read, or is no bank.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); make a bank with 'quarterturn bank fit'"
        ) from error
    return read_bank(blob, str(path))
