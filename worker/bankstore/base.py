"""What every bank store offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from quarterturn.worker.contract.bank import Bank


@dataclass(frozen=True, slots=True)
class BankVersion:
    """One bank of a line in a store: `version` is the SHA-256 of its blob, `size` in bytes, `pushed_at` ISO 8601."""

    line: str
    version: str
    pushed_at: str
    size: int
    active: bool


class BankStore(Protocol):
    """Keeps immutable bank versions of each line and points at the active one. Every method is thread-safe.

    All methods raise UnavailableError when the store cannot be reached.
    """

    def current(self, line: str) -> BankVersion | None:
        """The active version, or None if the line has none."""
        ...

    def load(self, line: str, version: str) -> Bank:
        """The bank of one version, its hash verified.

        Raises:
            DataError: there is no such version, or it is no bank.
            MismatchError: its content does not have this hash.
        """
        ...

    def publish(self, line: str, bank: Bank) -> BankVersion:
        """Store `bank` and make it the active version, atomically; tell those who wait."""
        ...

    def versions(self, line: str) -> list[BankVersion]:
        """All versions kept, the newest first."""
        ...

    def activate(self, line: str, version: str) -> None:
        """Make a kept version the active one (a rollback is just that); `version` may be a unique prefix.

        Raises:
            DataError: no version, or more than one, begins with `version`.
        """
        ...

    def wait(self, line: str, timeout_s: float) -> None:
        """Return when the active version may have changed, at the latest after `timeout_s`."""
        ...

    def close(self) -> None:
        """Release connections; may be called twice."""
        ...
