from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from quarterturn.worker.bankstore import redis as redis_module
from quarterturn.worker.bankstore.redis import RedisBankStore
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import ConfigError, DataError, UnavailableError
from quarterturn.worker.settings.worker import RedisStoreSettings
from tests.worker.bankstore import servers


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


@pytest.mark.parametrize("database", [0, 1])
def test_a_server_behind_a_unix_socket(tmp_path: Path, banks: list[Bank], database: int) -> None:
    socket_path = tmp_path / "x.sock"
    with servers.real(tmp_path / "redis", "--unixsocket", str(socket_path)) as port:
        url = f"unix://{socket_path}?db={database}"
        with closing(RedisBankStore(RedisStoreSettings(url=url))) as store:
            version = store.publish("line-1", banks[0]).version
            assert store.load("line-1", version).version == version
            store.wait("line-1", 0.5)
            assert store.look().address == str(socket_path)
        with redis.Redis(port=port, db=database) as by_port:
            assert by_port.get("bank:line-1:current") == version.encode()


def test_a_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    match = rf"^Redis at {tmp_path}/x\.sock cannot be used .*url is right$"
    absent = RedisBankStore(RedisStoreSettings(url=f"unix://{tmp_path}/x.sock"))
    with closing(absent) as store, pytest.raises(UnavailableError, match=match):
        store.current("line-1")


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://localhost", "its scheme is none of redis, rediss and unix; write redis://HOST:6379/0"),
        ("localhost:6379", "its scheme is none of"),
        ("redis://localhost:abc/0", "its port is no number from 1 to 65535; write redis://HOST:6379/0"),
        ("redis://me:secret@localhost:abc/0", "its port is no number"),  # pragma: allowlist secret
        ("redis://localhost:65536", "its port is no number"),
        ("redis://localhost:0", "its port is no number"),
        ("redis://localhost:6379/zero", "its database is no number; write redis://HOST:6379/0"),
        ("rediss://me:secret@localhost/1/2", "its database is no number"),  # pragma: allowlist secret
        ("redis://localhost/-1", "its database is no number"),
        ("redis://localhost/0?db=zero", "an option behind its '?' is unknown or has a wrong value"),
        ("redis://localhost/0?wait=1", "an option behind its '?' is unknown or has a wrong value"),
        ("redis://:sec/ret@localhost:6379/0", "its password holds one of /?#@ as it is; write redis://:PASSWORD@"),
        ("redis://:1?secret@localhost:6379/0", "its password holds one of"),
        ("redis://:#secret@localhost", "its password holds one of"),
        ("redis://:secret[@localhost", "a bracket in it is not closed"),
        ("unix://", "it names no socket; write unix:///PATH, with three slashes"),
        ("unix://tmp/x.sock", "it names no socket"),
    ],
)
def test_a_wrong_url_is_one_sentence_that_quotes_none_of_it(url: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RedisBankStore(RedisStoreSettings(url=url))
    text = str(caught.value)
    assert text.startswith(f"bank.redis.url: {fault}")
    assert "sec" not in text
    assert "ret" not in text


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://localhost",
        "redis://localhost:6379/",
        "redis://me:p%2Fw@[::1]:6379/15",  # pragma: allowlist secret
        "rediss://plant/0?socket_timeout=5",
        "unix://me:pw@/run/redis.sock?db=2",  # pragma: allowlist secret
    ],
)
def test_urls_that_can_be_used(url: str) -> None:
    RedisBankStore(RedisStoreSettings(url=url)).close()


def test_waiting_survives_a_lost_connection(
    store: RedisBankStore, client: redis.Redis, line: str, banks: list[Bank]
) -> None:
    store.wait(line, 0.5)  # returns with the confirmation of the subscription
    assert client.client_kill_filter(_type="pubsub") >= 1
    store.wait(line, 1.0)  # connects and subscribes again
    store.wait(line, 0.1)
    client.publish(f"bank:{line}:changed", "x")
    assert client.pubsub_numsub(f"bank:{line}:changed") == [(f"bank:{line}:changed".encode(), 1)]
