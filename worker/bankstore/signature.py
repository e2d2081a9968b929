"""Signed versions: who may write to the store cannot thereby put a bank of his own into service."""

from __future__ import annotations

import hmac

from quarterturn.worker.contract.errors import ConfigError, MismatchError
from quarterturn.worker.contract.manifest import short
from quarterturn.worker.settings.security import Secret

_KEY_BYTES = 32  # as long as the hash: a shorter one could be guessed


def read_key(secret: Secret) -> bytes:
    """The key that `secret` names.

    Raises:
        ConfigError: it is not there, or too short.
    """
    key = secret.read().encode()
    if len(key) < _KEY_BYTES:
        raise ConfigError(f"bank.redis.signing_key has {len(key)} bytes, fewer than 32; make one: openssl rand -hex 32")
    return key


def sign(key: bytes, line: str, version: str) -> bytes:
    """HMAC-SHA256 of line and version; the version is the hash of the bank's content."""
    return hmac.new(key, f"quarterturn bank\n{line}\n{version}".encode(), "sha256").hexdigest().encode()


def require_signature(key: bytes, line: str, version: str, found: object) -> None:
    """Refuse a version that was not signed with `key` for this line.

    Raises:
        MismatchError: says what to do.
    """
    if not isinstance(found, bytes) or not hmac.compare_digest(found, sign(key, line, version)):
        state = "no signature" if found is None else "a signature that is not ours"
        raise MismatchError(
            f"bank {short(version)} of line '{line}' has {state}; if it is yours, push it with bank.redis.signing_key "
            "set"
        )
