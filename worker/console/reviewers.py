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
        """Whose token it is; compared with all of them, in a time that tells nothing."""
        found = None
        for name, known in self._tokens.items():
            if hmac.compare_digest(known, token.encode()):
                found = name
        return found

    def reading_pass(self, name: str) -> str:
        """What a browser keeps to read, also for pictures, which send no header; it allows no change."""
        return hmac.new(self._tokens[name], b"quarterturn console: reading", hashlib.sha256).hexdigest()

    def may_read(self, reading_pass: str) -> bool:
        """Whether somebody was given this pass."""
        passes = [self.reading_pass(name) for name in self._tokens]
        return any([hmac.compare_digest(one.encode(), reading_pass.encode()) for one in passes])
