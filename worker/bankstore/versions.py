"""What both stores must decide alike: which version a prefix means, and which versions are too old to keep."""

from __future__ import annotations

from collections.abc import Sequence

from worker.contract.errors import DataError


def find_version(known: Sequence[str], prefix: str, line: str) -> str:
    """The one version in `known` that begins with `prefix`.

    Raises:
        DataError: none does, or more than one; the text says what to do.
    """
    found = [version for version in known if prefix and version.startswith(prefix)]
    if not found:
        raise DataError(f"line '{line}' has no bank '{prefix}'; see 'quarterturn bank list' for those it has")
    if len(found) > 1:
        names = ", ".join(version[:12] for version in found[:3])
        raise DataError(f"line '{line}' has {len(found)} banks that begin with '{prefix}' ({names}); give more digits")
    return found[0]


def outdated(newest_first: Sequence[str], protected: Sequence[str], keep: int) -> list[str]:
    """The versions to drop so that `keep` stay; the `protected` ones stay whatever their age."""
    others = [version for version in newest_first if version not in protected]
    return others[max(0, keep - len(protected)) :]
