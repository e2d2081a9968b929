"""Banks in Redis.

Keys of a line:

- `bank:{line}:v:<sha256>`: one immutable version, a hash with the fields `size`, `pushed_at`, `signature` (with a
  key) and the blob in chunks `0`, `1`, ...;
- `bank:{line}:current`: the active version;
- `bank:{line}:versions`: a sorted set of all versions, by the time of their push;
- `bank:{line}:changed`: the channel that tells of a new active version. It is a hint only: a listener who missed a
  message finds out by reading `current`;
- `bank:{line}:upload:<random>`: a version on its way in, which nobody reads. A push that is refused drops it; one whose
  process died, or whose server would not even do that, leaves it to expire.

No call waits longer than `timeout_s` for a server that has fallen silent, whatever it was in the middle of.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from quarterturn.worker.bankstore.base import BankVersion
from quarterturn.worker.bankstore.redis_connection import (
    Pipeline,
    PubSub,
    RedisFault,
    SilentFault,
    address,
    answering,
    connect,
)
from quarterturn.worker.bankstore.signature import read_key, require_signature, sign
from quarterturn.worker.bankstore.versions import find_version, outdated
from quarterturn.worker.contract.bank import Bank, read_bank
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.manifest import sha256, short
from quarterturn.worker.contract.times import timestamp
from quarterturn.worker.settings.worker import RedisStoreSettings

_CHUNK = 16 * 2**20  # bytes; each chunk is one command and so has the whole timeout to itself
_ANSWERS = 10  # an upload expires after so many `timeout_s` without another chunk
_GRACE_S = 3600  # for which a version no longer kept can still be loaded by those who are at it
_LISTEN_S = 0.2  # after which `wait` sees that the store was closed


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """Who answers, and what happens to banks when its memory is full; `max_bytes` 0: it has no limit of its own."""

    address: str
    version: str
    policy: str
    max_bytes: int


class RedisBankStore:
    """A BankStore in Redis. Connects at the first use, and again after a loss."""

    def __init__(self, settings: RedisStoreSettings) -> None:
        self._keep = settings.keep
        self._key = None if settings.signing_key is None else read_key(settings.signing_key)
        self._timeout_s = settings.timeout_s
        self._redis = connect(settings)
        self._where = address(self._redis)
        self._closed = False
        self._listening = threading.Lock()
        self._subscriptions: dict[str, PubSub] = {}

    def current(self, line: str) -> BankVersion | None:
        """The active version, or None if the line has none."""
        with self._answering():
            version = _text(self._redis.get(_current(line)))
            return None if version is None else self._describe_active(line, version)

    def load(self, line: str, version: str) -> Bank:
        """The bank of one version, its hash verified, and its signature where we have a key."""
        chunks: list[bytes] = []
        with self._answering():
            signature = self._redis.hget(_blob(line, version), "signature")
            while isinstance(chunk := self._redis.hget(_blob(line, version), str(len(chunks))), bytes):
                chunks.append(chunk)
        if not chunks:
            raise self._gone(line, version)
        if self._key is not None:
            require_signature(self._key, line, version, signature)
        blob = b"".join(chunks)
        chunks.clear()
        return read_bank(blob, f"{self._where} {_blob(line, version)}", version)

    def publish(self, line: str, bank: Bank) -> BankVersion:
        """Store `bank` and make it the active version, atomically; tell those who wait."""
        blob = bank.blob
        version = sha256(blob)

        def swap(pipe: Pipeline) -> None:
            before = _text(pipe.get(_current(line))) or version
            others = [known for known in _texts(pipe.zrevrange(_index(line), 0, -1)) if known != version]
            pushed_s = _seconds(pipe.time())  # the server's clock: pushes from several machines have one order
            pipe.multi()
            pipe.rename(upload, _blob(line, version))
            pipe.persist(_blob(line, version))
            pipe.hset(_blob(line, version), "pushed_at", timestamp(pushed_s))
            if self._key is not None:
                pipe.hset(_blob(line, version), "signature", sign(self._key, line, version))
            pipe.zadd(_index(line), {version: pushed_s})
            pipe.set(_current(line), version)
            pipe.publish(_channel(line), version)
            for old in outdated([version, *others], [version, before], self._keep):
                pipe.zrem(_index(line), old)
                pipe.expire(_blob(line, old), _GRACE_S)

        with self._answering():
            with self._uploaded(line, blob) as upload:
                self._redis.transaction(swap, _index(line), _current(line))
            return self._describe_active(line, version)

    def versions(self, line: str) -> list[BankVersion]:
        """All versions kept, the newest first."""
        with self._answering():
            known = _texts(self._redis.zrevrange(_index(line), 0, -1))
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.get(_current(line))
                for version in known:
                    pipe.hmget(_blob(line, version), ["size", "pushed_at"])
                active, *details = pipe.execute()
        return [
            BankVersion(line, version, str(_text(pushed_at)), size, version == _text(active))
            for version, (field, pushed_at) in zip(known, details, strict=True)
            if (size := _size(field)) is not None  # evicted, or deleted or damaged by hand
        ]

    def activate(self, line: str, version: str) -> None:
        """Make a kept version the active one; `version` may be a unique prefix."""

        def swap(pipe: Pipeline) -> None:
            found = find_version(_texts(pipe.zrevrange(_index(line), 0, -1)), version, line)
            pipe.multi()
            pipe.set(_current(line), found)
            pipe.publish(_channel(line), found)

        with self._answering():
            self._redis.transaction(swap, _index(line))

    def wait(self, line: str, timeout_s: float) -> None:
        """Return when the active version may have changed, at the latest after `timeout_s`.

        One thread at a time hears the notifications; others wait for their whole time.
        """
        deadline = time.monotonic() + timeout_s
        if not self._listening.acquire(timeout=timeout_s):
            return
        try:
            with self._answering():
                self._listen(line, deadline)
        finally:
            self._listening.release()

    def look(self) -> RedisFacts:
        """What the server says of itself.

        Raises:
            UnavailableError: it does not answer.
        """
        with self._answering():
            info: dict[str, Any] = self._redis.info()
        return RedisFacts(
            self._where.removeprefix("Redis at "), info["redis_version"], info["maxmemory_policy"], info["maxmemory"]
        )

    def close(self) -> None:
        """Release connections; may be called twice."""
        self._closed = True
        with self._listening:
            for subscription in self._subscriptions.values():
                subscription.close()
            self._subscriptions.clear()
        self._redis.close()

    @contextmanager
    def _uploaded(self, line: str, blob: bytes) -> Iterator[str]:
        """`blob` in chunks under a key of its own; what the block does not rename is dropped if it fails."""
        key = f"bank:{line}:upload:{uuid.uuid4().hex}"
        try:
            self._upload(key, blob)
            yield key
        except SilentFault:
            raise  # it would be asked in vain, and for as long again
        except BaseException:
            with suppress(RedisFault):
                self._redis.expire(key, 0)  # deletes it, and needs no permission that the upload did not need
            raise

    def _upload(self, key: str, blob: bytes) -> None:
        lasts_s = math.ceil(_ANSWERS * self._timeout_s)
        with self._redis.pipeline() as pipe:  # both or none: no key without an end
            pipe.hset(key, "size", str(len(blob)))
            pipe.expire(key, lasts_s)
            pipe.execute()
        for index, start in enumerate(range(0, len(blob), _CHUNK)):
            self._redis.hset(key, str(index), blob[start : start + _CHUNK])
            self._redis.expire(key, lasts_s)

    def _describe_active(self, line: str, version: str) -> BankVersion:
        field, pushed_at = self._redis.hmget(_blob(line, version), ["size", "pushed_at"])
        size = _size(field)
        if size is None:
            raise self._gone(line, version)
        return BankVersion(line, version, str(_text(pushed_at)), size, active=True)

    def _listen(self, line: str, deadline: float) -> None:
        subscription = self._subscriptions.get(line)
        if subscription is None:
            subscription = self._redis.pubsub()  # type: ignore[no-untyped-call]
            subscription.subscribe(_channel(line))  # and again by itself, whenever the connection was lost
            self._subscriptions[line] = subscription
        # The confirmation of a subscription counts as news too: the version may have changed before it.
        while not self._closed and (left := deadline - time.monotonic()) > 0:
            if subscription.get_message(timeout=min(left, _LISTEN_S)) is not None:
                return

    def _gone(self, line: str, version: str) -> DataError:
        return DataError(
            f"{self._where}: bank {short(version)} of line '{line}' is not there (any more), or damaged; "
            "push one with 'quarterturn bank push'"
        )

    def _answering(self) -> AbstractContextManager[None]:
        return answering(self._redis, self._timeout_s)


def _current(line: str) -> str:
    return f"bank:{line}:current"


def _blob(line: str, version: str) -> str:
    return f"bank:{line}:v:{version}"


def _index(line: str) -> str:
    return f"bank:{line}:versions"


def _channel(line: str) -> str:
    return f"bank:{line}:changed"


def _size(field: Any) -> int | None:
    text = _text(field)
    return int(text) if text is not None and text.isdecimal() else None


def _text(value: Any) -> str | None:
    return None if value is None else value.decode("ascii", "replace")


def _texts(values: Any) -> list[str]:
    return [value.decode("ascii", "replace") for value in values]


def _seconds(server_time: tuple[int, int]) -> float:
    seconds, microseconds = server_time
    return seconds + microseconds / 1e6
