"""The checksum that Kafka asks of every batch of records (CRC-32C): fast only with a package that can be missing."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

PACKAGE = "crc32c"
"""What kafka-python computes it with; without it, it does so in Python and says nothing."""

COST = f"package '{PACKAGE}' is missing, so each MiB of frames costs 0.2 to 0.6 s of CPU instead of less than 1 ms"


def are_slow() -> bool:
    """Whether PACKAGE is missing."""
    try:
        import crc32c  # noqa: F401
    except ImportError:
        return True
    return False


def warn_if_slow() -> None:
    """Say once, at the start, what nobody would look for: the line works, and is far slower than it need be."""
    if are_slow():
        log.warning("Kafka: %s; run: pip install %s", COST, PACKAGE)
