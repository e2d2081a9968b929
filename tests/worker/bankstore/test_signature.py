"""Someone writes to Redis who has no key."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from quarterturn.worker.bankstore.redis import RedisBankStore
from quarterturn.worker.bankstore.watch import BankWatcher
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import ConfigError, MismatchError
from quarterturn.worker.settings.security import Secret
from quarterturn.worker.settings.worker import RedisStoreSettings

KEY = "k" * 32
Open = Callable[[str | None], RedisBankStore]


@pytest.fixture
def open_with(redis_url: str, line: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens a store that signs and asks for signatures with a key, or one without."""
    opened: list[RedisBankStore] = []

    def open_one(key: str | None) -> RedisBankStore:
        monkeypatch.setenv("BANK_KEY", key or "")
        secret = None if key is None else Secret(env="BANK_KEY")
        opened.append(RedisBankStore(RedisStoreSettings(url=redis_url, signing_key=secret)))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()
    with redis.Redis.from_url(redis_url) as client:
        client.delete(*(client.keys(f"bank:{line}*") or [b"none"]))


def test_a_signed_bank_is_loaded_with_and_without_a_key(open_with: Open, banks: list[Bank], line: str) -> None:
    version = open_with(KEY).publish(line, banks[0]).version
    assert open_with(KEY).load(line, version).version == version
    assert open_with(None).load(line, version).version == version


def test_the_signature_is_that_of_the_books(open_with: Open, banks: list[Bank], line: str, redis_url: str) -> None:
    version = open_with(KEY).publish(line, banks[0]).version
    expected = hmac.new(KEY.encode(), f"quarterturn bank\n{line}\n{version}".encode(), hashlib.sha256).hexdigest()
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert client.hget(f"bank:{line}:v:{version}", "signature") == expected


@pytest.mark.parametrize(
    ("key", "state"), [(None, "no signature"), ("x" * 32, "a signature that is not ours")], ids=["none", "another"]
)
def test_a_bank_without_our_signature_is_refused(
    open_with: Open, banks: list[Bank], line: str, key: str | None, state: str
) -> None:
    version = open_with(key).publish(line, banks[0]).version
    with pytest.raises(MismatchError) as caught:
        open_with(KEY).load(line, version)
    assert str(caught.value) == (
        f"bank {version[:12]} of line '{line}' has {state}; if it is yours, push it with bank.redis.signing_key set"
    )
    assert open_with(KEY).publish(line, banks[0]).version == version
    assert open_with(KEY).load(line, version).version == version  # pushed again, with the key


@pytest.mark.parametrize("forged", [b"\xff" * 64, b"", b"0" * 64])
def test_a_forged_signature_is_refused(
    open_with: Open, banks: list[Bank], line: str, redis_url: str, forged: bytes
) -> None:
    version = open_with(KEY).publish(line, banks[0]).version
    with redis.Redis.from_url(redis_url) as client:
        client.hset(f"bank:{line}:v:{version}", "signature", forged)
    with pytest.raises(MismatchError, match="a signature that is not ours"):
        open_with(KEY).load(line, version)


def test_a_bank_of_another_line_is_refused(open_with: Open, banks: list[Bank], line: str, redis_url: str) -> None:
    other = f"{line}-other"
    version = open_with(KEY).publish(other, banks[0]).version
    with redis.Redis.from_url(redis_url) as client:
        client.copy(f"bank:{other}:v:{version}", f"bank:{line}:v:{version}")
        client.set(f"bank:{line}:current", version)
    with pytest.raises(MismatchError, match=f"of line '{line}' has a signature that is not ours"):
        open_with(KEY).load(line, version)


def test_a_worker_goes_on_with_the_bank_it_has(open_with: Open, banks: list[Bank], line: str) -> None:
    good = open_with(KEY).publish(line, banks[0]).version
    served: list[str] = []
    watcher = BankWatcher(open_with(KEY), line, lambda _, version: served.append(version), poll_s=0.1)
    watcher.start()
    slipped_in = open_with(None).publish(line, banks[1]).version
    deadline = time.monotonic() + 20
    while watcher.state == "ok":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    watcher.close()
    assert watcher.state.startswith(f"bank {slipped_in[:12]} is refused: ")
    assert served == [good]


def test_a_pointer_of_any_bytes_is_no_bank(open_with: Open, banks: list[Bank], line: str, redis_url: str) -> None:
    store = open_with(KEY)
    version = store.publish(line, banks[0]).version
    with redis.Redis.from_url(redis_url) as client:
        client.set(f"bank:{line}:current", b"\xff\xfe")
    assert [known.version for known in store.versions(line)] == [version]
    with pytest.raises(Exception, match=f"of line '{line}' is not there"):
        store.current(line)


def test_a_short_key_is_refused(open_with: Open) -> None:
    with pytest.raises(ConfigError) as caught:
        open_with("short")
    assert str(caught.value) == ("bank.redis.signing_key has 5 bytes, fewer than 32; make one: openssl rand -hex 32")
