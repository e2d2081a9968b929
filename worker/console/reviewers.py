"""Who may judge results: by a token, which gives the name that stands in the record."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.settings.security import Secret

MIN_TOKEN = 16


class Reviewers:
    """Names by token. The tokens are read once, at the start.

    Raises:
        ConfigError: a token is missing, too short, or two people's.
    """

    def __init__(self, reviewers: Mapping[str, Secret]) -> None:
        self._tokens = {name: secret.read().encode() for name, secret in reviewers.items()}
        for name, token in self._tokens.items():
            if len(token) < MIN_TOKEN:
                raise ConfigError(
                    f"console.reviewers: the token of '{name}' has fewer than {MIN_TOKEN} characters; "
                    "make one with: openssl rand -hex 16"
                )
        if len(set(self._tokens.values())) < len(self._tokens):
            raise ConfigError("console.reviewers: two people have the same token; give each their own")

    def __len__(self) -> int:
        return len(self._tokens)

    def name_of(self, token: str) -> str | None:
        """Whose token it is."""
        return _found(token, self._tokens)

    def reading_pass(self, name: str) -> str:
        """What a browser keeps to read, also for pictures, which send no header; it allows no change."""
        return hmac.new(self._tokens[name], b"quarterturn console: reading", hashlib.sha256).hexdigest()

    def may_read(self, reading_pass: str) -> bool:
        """Whether somebody was given this pass."""
        return _found(reading_pass, {name: self.reading_pass(name).encode() for name in self._tokens}) is not None


def _found(given: str, known: Mapping[str, bytes]) -> str | None:
    """Whose secret it is; all are compared, in a time that tells nothing."""
    found = None
    for name, secret in known.items():
        if hmac.compare_digest(secret, given.encode()):
            found = name
    return found
