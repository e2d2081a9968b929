"""What is alike for every store: the active version, what a prefix means, what is too old, how a time is written."""

from __future__ import annotations

from collections.abc import Sequence

from quarterturn.worker.bankstore.base import BankStore, BankVersion
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.manifest import short


def require_active(store: BankStore, line: str) -> BankVersion:
    """The active version of `line`.

    Raises:
        DataError: it has none; the text says how to push one.
        UnavailableError: the store cannot be reached.
    """
    active = store.current(line)
    if active is None:
        raise DataError(f"line '{line}' has no bank; push one with 'quarterturn bank push'")
    return active


def load_active(store: BankStore, line: str) -> Bank:
    """The active bank of `line`.

    Raises:
        DataError: it has none, or what is there is none.
        MismatchError: its content does not have its hash.
        UnavailableError: the store cannot be reached.
    """
    return store.load(line, require_active(store, line).version)


def find_version(known: Sequence[str], prefix: str, line: str) -> str:
    """The one version in `known` that begins with `prefix`.

    Raises:
        DataError: none does, or more than one; the text says what to do.
    """
    found = [version for version in known if prefix and version.startswith(prefix)]
    if not found:
        raise DataError(f"line '{line}' has no bank '{prefix}'; 'quarterturn bank list' shows those it has")
    if len(found) > 1:
        names = ", ".join(short(version) for version in found[:3])
        raise DataError(f"line '{line}' has {len(found)} banks that begin with '{prefix}' ({names}); give more digits")
    return found[0]


def outdated(newest_first: Sequence[str], protected: Sequence[str], keep: int) -> list[str]:
    """The versions to drop so that `keep` stay; `protected` ones stay whatever their age, and count as kept."""
    others = [version for version in newest_first if version not in protected]
    room = keep - (len(newest_first) - len(others))
    return others[max(0, room) :]
