"""The way to a Redis, and what its errors mean to us. This is the only file that imports redis."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.client import Pipeline, PubSub
from redis.retry import Retry

from quarterturn.worker.contract.errors import ConfigError, UnavailableError
from quarterturn.worker.settings.worker import RedisStoreSettings

__all__ = ["Client", "Pipeline", "PubSub", "RedisFault", "SilentFault", "address", "answering", "connect"]

Client = redis.Redis
RedisFault = redis.RedisError
"""Whatever the server, or the way to it, does not do."""
SilentFault = redis.TimeoutError
"""No answer within bank.redis.timeout_s."""

_CLUSTER = "it is a node of a Redis Cluster, where a line's keys lie apart: use a Redis that is none"
_CURES: dict[type[redis.RedisError], str] = {
    redis.OutOfMemoryError: "its memory is full: raise its 'maxmemory', or keep fewer banks (bank.redis.keep)",
    redis.ReadOnlyError: "it is a replica: write the address of its master into bank.redis.url",
    redis.exceptions.NoPermissionError: "give bank.redis.username the permissions that docs/security.md lists",
    redis.AuthenticationError: "correct bank.redis.password or bank.redis.username",
    redis.BusyLoadingError: "it is reading its data from disk: try again when it has",
    redis.exceptions.MasterDownError: "it is a replica that has lost its master: mend that, or ask the master",
    redis.exceptions.ClusterDownError: _CLUSTER,
    redis.exceptions.ClusterCrossSlotError: _CLUSTER,
    redis.exceptions.MovedError: _CLUSTER,
    redis.exceptions.AskError: _CLUSTER,
    redis.exceptions.TryAgainError: _CLUSTER,
    redis.InvalidResponse: "what answers there is no Redis: correct host and port in bank.redis.url",
}
_CURES_BY_TEXT = {
    "MISCONF": "it cannot write to its disk: make room there, or see its log for what is wrong",
    "NOREPLICAS": "start its replicas, or lower its 'min-replicas-to-write'",
    "BUSY": "end the script that keeps it busy: redis-cli SCRIPT KILL",
    "DENIED": "it answers its own machine only: give it a password, and set bank.redis.password",
    "WRONGTYPE": "a key of that name is not ours: choose another database in bank.redis.url",
    "DB index": "correct the number of the database at the end of bank.redis.url",
    "unknown command": "use a Redis that knows it, under its own name",
    "max number of clients": "raise its 'maxclients', or find out who holds its connections",
    ".*WRONG_VERSION_NUMBER": "its port speaks no TLS: write redis:// into bank.redis.url",
    ".*SSL": "check 'ca', 'certificate' and 'key' in bank.redis.tls",
}
"""By patterns of what has no class of its own."""
_BROKEN = ("reset by peer", "closed by server", "Broken pipe")

_SCHEME = "its scheme is none of redis, rediss and unix; write redis://HOST:6379/0"
_BRACKET = "a bracket in it is not closed; write [ADDRESS] for one of IPv6, %5B %5D for those of a password"
_UNESCAPED = (
    "its password holds one of /?#@ as it is; write redis://:PASSWORD@HOST:6379/0, with %2F %3F %23 %40 for those"
)
_PORT = "its port is no number from 1 to 65535; write redis://HOST:6379/0"
_DATABASE = "its database is no number; write redis://HOST:6379/0"
_SOCKET = "it names no socket; write unix:///PATH, with three slashes, and ?db=1 behind it for another database"
_OPTION = "an option behind its '?' is unknown or has a wrong value; correct it or leave it out"


def connect(settings: RedisStoreSettings) -> Client:
    """A client that connects at its first use, and again after a loss.

    A broken connection is tried again, twice: whoever watches the store decides how long to go on. A server that is
    silent is not: it has had its `timeout_s`.

    Raises:
        ConfigError: the URL, a password or a certificate cannot be used.
    """
    if fault := _fault(settings.url):
        raise ConfigError(f"bank.redis.url: {fault}")
    over_tcp = {} if settings.url.startswith("unix://") else {"socket_keepalive": True}
    proofs = _proofs(settings)
    try:
        client = redis.Redis.from_url(
            settings.url,
            **proofs,
            **over_tcp,
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
            health_check_interval=30,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2, (redis.ConnectionError,)),
        )
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # not opened yet: takes the URL's options, or not
    except (TypeError, ValueError):
        if "?" not in settings.url:
            raise
        raise ConfigError(f"bank.redis.url: {_OPTION}") from None
    return client


def address(client: Client) -> str:
    """The server's name for errors; never the URL, which may hold a password."""
    options = client.get_connection_kwargs()
    place = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"Redis at {place}"


@contextmanager
def answering(client: Client, timeout_s: float) -> Iterator[None]:
    """Faults of the server as one sentence that names the cure.

    Raises:
        UnavailableError: the server does not answer, or refuses.
    """
    try:
        yield
    except redis.RedisError as error:
        what = _said(error, client, timeout_s)
        raise UnavailableError(f"{address(client)} cannot be used ({what}); {_cure(error, client)}") from error


def _said(error: redis.RedisError, client: Client, timeout_s: float) -> str:
    if isinstance(error, redis.TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if _lacks_password(error, client):
        return "it asks for a password"
    text = str(error).rpartition(" of pipeline caused error: ")[2]
    return text.partition(". Commands that may")[0].rstrip(".")  # MISCONF is a paragraph


def _cure(error: redis.RedisError, client: Client) -> str:
    text = str(error).rpartition(" of pipeline caused error: ")[2]
    is_tls = issubclass(client.connection_pool.connection_class, redis.SSLConnection)
    if isinstance(error, redis.TimeoutError):
        cure = "see whether it hangs, or raise bank.redis.timeout_s"
        return f"{cure}, or write redis:// into bank.redis.url if its port has no TLS" if is_tls else cure
    if _lacks_password(error, client):
        return "set bank.redis.password, and bank.redis.username where it has users"
    if type(error) in _CURES:
        return _CURES[type(error)]
    for pattern, cure in _CURES_BY_TEXT.items():
        if re.match(pattern, text):
            return cure
    cure = "check that it runs and that bank.redis.url is right"
    is_broken = any(part in text for part in _BROKEN)
    return f"{cure}, with rediss:// if its port has TLS" if is_broken and not is_tls else cure


def _lacks_password(error: redis.RedisError, client: Client) -> bool:
    return isinstance(error, redis.AuthenticationError) and client.get_connection_kwargs().get("password") is None


def _proofs(settings: RedisStoreSettings) -> dict[str, Any]:
    """How to prove ourselves to the server, and whom to believe."""
    proofs: dict[str, Any] = {}
    if settings.username is not None:
        proofs["username"] = settings.username
    if settings.password is not None:
        proofs["password"] = settings.password.read()
    if (tls := settings.tls) is not None:
        tls.check("bank.redis.tls")
        files = {"ssl_ca_certs": tls.ca, "ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
        proofs |= {name: str(path) for name, path in files.items() if path is not None}
    return proofs


def _fault(url: str) -> str | None:
    """What is wrong with the URL, and how to write it; quotes none of it, for it may hold a password."""
    if not url.startswith(("redis://", "rediss://", "unix://")):
        return _SCHEME
    try:
        parts = urlsplit(url)
    except ValueError:
        return _BRACKET
    if parts.scheme == "unix":
        return None if parts.path and not parts.hostname else _SOCKET
    if "@" in parts.path + parts.query + parts.fragment:
        return _UNESCAPED
    try:
        has_port = parts.port != 0
    except ValueError:
        has_port = False
    if not has_port:
        return _PORT
    return None if re.fullmatch("/?[0-9]*/?", parts.path) else _DATABASE
