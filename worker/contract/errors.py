"""The errors a user may see: one sentence that names the place and the fix, never a traceback."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "bad_bit_depth",
    "bad_header",
    "bad_pixel_format",
    "corrupt_record",
    "empty",
    "not_unpacked",
    "region_outside",
    "size_mismatch",
    "too_elongated",
    "too_many_pixels",
    "truncated",
    "undecodable",
    "unknown_product",
]
"""Why a frame cannot be inspected; docs/kafka.md says what each means."""


class QuarterturnError(Exception):
    """Base of all errors whose text is meant for the user; the command line prints it and exits with 1."""


class ConfigError(QuarterturnError):
    """A setting is unknown, missing or out of range."""


class DataError(QuarterturnError):
    """A file, folder, picture or blob cannot be used as it is."""


class GoneError(DataError):
    """A frame can no longer be fetched from its topic."""


class NoFrameError(GoneError):
    """There never was such a frame in its topic."""


class MismatchError(QuarterturnError):
    """Two artifacts do not belong together; the text prints both values."""


class UnavailableError(QuarterturnError):
    """A service (broker, Redis) does not answer now; trying again later may help."""


class DeviceError(QuarterturnError):
    """A GPU or its driver failed; the worker stops, and the frames it had are inspected by the next one."""


class FrameError(QuarterturnError):
    """One frame cannot be inspected: it becomes a dead letter, and the line goes on.

    `reason` is a stable code for consumers of the dead-letter topic, the text is for people.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
