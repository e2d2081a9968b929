"""How a broker is reached, and what its errors mean to us."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from kafka.errors import (
    AuthorizationError,
    CommitFailedError,
    CorruptRecordError,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    KafkaError,
    UnsupportedCodecError,
    UnsupportedVersionError,
)
from kafka.net.sasl.oauth import AbstractTokenProvider

from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.settings.security import Secret
from quarterturn.worker.settings.worker import KafkaSettings

logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it reports each reconnect as an error; the transport does once

BrokerError = KafkaError
"""Whatever the broker, or the way to it, does not do."""

StaleMemberError = CommitFailedError
"""The group has been rebalanced since the frames were polled: the commit was refused."""

LASTING_ERRORS = (
    AuthorizationError,
    CorruptRecordError,  # where not even the number of the records is known; kafka-python would not come back
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    UnsupportedCodecError,
    UnsupportedVersionError,
)
"""Broker errors that no waiting cures."""

ANSWER_S = 10.0
"""How long a request or a transaction may take before it counts as failed."""


def text(error: Exception) -> str:
    """What an error says, or at least what it is."""
    return str(error) or type(error).__name__


@contextlib.contextmanager
def reaching(settings: KafkaSettings) -> Iterator[None]:
    """Faults of the first contact as one sentence."""
    try:
        yield
    except (KafkaError, ValueError) as error:
        raise UnavailableError(
            f"Kafka at {settings.bootstrap_servers} cannot be used ({text(error)}); "
            "start the broker, or correct 'bootstrap_servers', 'tls', 'sasl' or the permissions"
        ) from error


class _TokenFromSettings(AbstractTokenProvider):  # type: ignore[misc]  # kafka-python has no types
    """Reads the token anew for each connection: something else keeps it fresh."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def token(self) -> str:
        return self._secret.read()


def reach(settings: KafkaSettings) -> dict[str, Any]:
    """Where the broker is, and how to prove ourselves to it."""
    reach: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "bootstrap_timeout_ms": ms(ANSWER_S),
        "request_timeout_ms": ms(ANSWER_S),
    }
    if (tls := settings.tls) is not None:
        tls.check("transport.kafka.tls")
        files = {"ssl_cafile": tls.ca, "ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
        reach |= {name: str(path) for name, path in files.items() if path is not None}
        reach["security_protocol"] = "SASL_SSL" if settings.sasl else "SSL"
    if (sasl := settings.sasl) is not None:
        reach["sasl_mechanism"] = sasl.mechanism
        if sasl.token is not None:
            sasl.token.read()  # a missing one is said here, where somebody listens
            reach["sasl_oauth_token_provider"] = _TokenFromSettings(sasl.token)
        elif sasl.password is not None:
            reach |= {"sasl_plain_username": sasl.username, "sasl_plain_password": sasl.password.read()}
    return reach


def common(settings: KafkaSettings) -> dict[str, Any]:
    """The options of consumers and producers."""
    return {
        **reach(settings),
        "client_id": "quarterturn",
        "reconnect_backoff_max_ms": 1000,
        "metrics_enabled": False,
        "allow_auto_create_topics": False,
    }


def ms(seconds: float) -> int:
    """Whole milliseconds, as Kafka counts."""
    return int(seconds * 1000)
