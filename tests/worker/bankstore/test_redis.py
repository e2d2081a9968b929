from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import redis

from quarterturn.worker.bankstore import redis as redis_module
from quarterturn.worker.bankstore.redis import RedisBankStore
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import ConfigError, DataError, UnavailableError
from quarterturn.worker.settings.worker import RedisStoreSettings


@pytest.fixture
def client(redis_url: str, line: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client
        client.delete(*(client.keys(f"bank:{line}:*") or [b"none"]))


@pytest.fixture
def store(redis_url: str, client: redis.Redis) -> Iterator[RedisBankStore]:
    store = RedisBankStore(RedisStoreSettings(url=redis_url, keep=2))
    yield store
    store.close()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_large_bank_goes_in_chunks(
    store: RedisBankStore, client: redis.Redis, line: str, banks: list[Bank], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "_CHUNK", 300)
    version = store.publish(line, banks[0]).version
    key = f"bank:{line}:v:{version}"
    chunks = [client.hget(key, str(index)) or b"" for index in range(client.hlen(key) - 2)]
    assert len(chunks) == -(-len(banks[0].blob) // 300) > 2
    assert b"".join(chunks) == banks[0].blob
    assert store.load(line, version).version == version


def test_nothing_but_the_documented_keys_is_left(
    store: RedisBankStore, client: redis.Redis, line: str, banks: list[Bank]
) -> None:
    version = store.publish(line, banks[0]).version
    assert set(client.keys(f"bank:{line}:*")) == {
        f"bank:{line}:{name}".encode() for name in (f"v:{version}", "current", "versions")
    }
    assert client.get(f"bank:{line}:current") == version.encode()
    assert client.ttl(f"bank:{line}:v:{version}") == -1  # for ever


@pytest.mark.parametrize("field", [b"", b"12 MB", b"-1", b"\xff"])
def test_a_version_whose_size_is_no_number_is_damaged(
    store: RedisBankStore, client: redis.Redis, line: str, banks: list[Bank], field: bytes
) -> None:
    kept, active = (store.publish(line, bank).version for bank in banks[:2])
    client.hset(f"bank:{line}:v:{active}", "size", field)
    with pytest.raises(DataError, match=r"is not there \(any more\), or damaged; push one"):
        store.current(line)
    assert [one.version for one in store.versions(line)] == [kept]
    store.activate(line, kept)  # the way back is open
    assert store.current(line) is not None


def test_a_dropped_version_expires_and_a_new_push_keeps_it(
    store: RedisBankStore, client: redis.Redis, line: str, banks: list[Bank]
) -> None:
    for bank in banks[:3]:
        store.publish(line, bank)
    key = f"bank:{line}:v:{banks[0].version}"
    assert 0 < client.ttl(key) <= 3600
    assert store.load(line, banks[0].version).version == banks[0].version  # for those who were at it
    store.publish(line, banks[0])
    assert client.ttl(key) == -1


def test_an_active_version_that_redis_evicted(
    store: RedisBankStore, client: redis.Redis, line: str, banks: list[Bank]
) -> None:
    version = store.publish(line, banks[0]).version
    client.delete(f"bank:{line}:v:{version}")
    with pytest.raises(DataError, match=f"bank {version[:12]} of line '{line}' is not there"):
        store.current(line)
    assert store.versions(line) == []


def test_a_server_that_is_not_there(banks: list[Bank]) -> None:
    port = closed_port()
    store = RedisBankStore(RedisStoreSettings(url=f"redis://me:secret@127.0.0.1:{port}/0"))
    calls = {
        "current": lambda: store.current("l"),
        "load": lambda: store.load("l", "0" * 64),
        "publish": lambda: store.publish("l", banks[0]),
        "versions": lambda: store.versions("l"),
        "activate": lambda: store.activate("l", "0"),
        "wait": lambda: store.wait("l", 0.1),
    }
    for name, call in calls.items():
        with pytest.raises(UnavailableError) as caught:
            call()
        text = str(caught.value)
        assert text.startswith(f"Redis at 127.0.0.1:{port} cannot be used"), name
        assert text.endswith("check that it runs and that bank.redis.url is right"), name
        assert "secret" not in text, name
    store.close()


def test_a_key_of_another_kind_is_one_sentence(store: RedisBankStore, client: redis.Redis, line: str) -> None:
    client.lpush(f"bank:{line}:current", "x")
    with pytest.raises(UnavailableError, match=r"cannot be used \(WRONGTYPE"):
        store.current(line)


def test_a_url_of_no_known_kind() -> None:
    with pytest.raises(ConfigError, match=r"bank\.redis\.url: .*scheme"):
        RedisBankStore(RedisStoreSettings(url="http://localhost"))


def test_waiting_survives_a_lost_connection(
    store: RedisBankStore, client: redis.Redis, line: str, banks: list[Bank]
) -> None:
    store.wait(line, 0.5)  # returns with the confirmation of the subscription
    assert client.client_kill_filter(_type="pubsub") >= 1
    store.wait(line, 1.0)  # connects and subscribes again
    store.wait(line, 0.1)
    client.publish(f"bank:{line}:changed", "x")
    assert client.pubsub_numsub(f"bank:{line}:changed") == [(f"bank:{line}:changed".encode(), 1)]
