"""Everything that a Redis refuses, on real servers where there is a way: what it leaves behind, and what cures it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import redis

from quarterturn.worker.bankstore import redis as redis_module
from quarterturn.worker.bankstore.redis import RedisBankStore
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.settings.worker import RedisStoreSettings
from tests.secure_services import PASSWORD, SecureRedis, secure_redis
from tests.worker.bankstore import servers

MIB = 2**20
Server = AbstractContextManager[int]


@dataclass
class Blob:
    """Stands for a large bank: a push looks at nothing else of it."""

    blob: bytes = b"\x01" * (20 * MIB)


BLOB = cast(Bank, Blob())


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module, "_CHUNK", MIB)
    monkeypatch.setenv("THE_PASSWORD", PASSWORD)


@pytest.fixture(scope="module")
def secured() -> Iterator[SecureRedis]:
    with secure_redis() as server:
        yield server


def store(port: int, scheme: str = "redis", database: int = 0, **changes: object) -> RedisBankStore:
    url = f"{scheme}://127.0.0.1:{port}/{database}"
    return RedisBankStore(RedisStoreSettings.model_validate({"url": url, "timeout_s": 2.0, **changes}))


def refused(store: RedisBankStore, bank: Bank = BLOB) -> str:
    with closing(store), pytest.raises(UnavailableError) as caught:
        store.publish("line-1", bank)
    return str(caught.value)


# What a refused push leaves behind


def full_in_the_middle(admin: redis.Redis) -> dict[str, object]:
    admin.config_set("maxmemory", int(admin.info()["used_memory"]) + 8 * MIB)
    return {}


def without(admin: redis.Redis, *rights: str) -> dict[str, object]:
    """A publisher who lacks some rights."""
    rules = ("on", f">{PASSWORD}", "~bank:*", "&bank:*", "+@all", *rights)
    admin.execute_command("ACL", "SETUSER", "publisher", *rules)
    return {"username": "publisher", "password": {"env": "THE_PASSWORD"}}


REFUSALS: dict[str, Callable[[redis.Redis], dict[str, object]]] = {
    "memory": full_in_the_middle,
    "may not write": lambda admin: without(admin, "-@write"),
    "may not rename": lambda admin: without(admin, "-rename"),
    "may not announce": lambda admin: without(admin, "resetchannels"),
    "may not delete": lambda admin: without(admin, "-del", "-unlink", "-rename"),
    "another kind of key": lambda admin: admin.set("bank:line-1:versions", "x") and {},
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refused_push_leaves_nothing_behind(tmp_path: Path, kind: str) -> None:
    with servers.real(tmp_path / "redis") as port, redis.Redis(port=port) as admin:
        changes = REFUSALS[kind](admin)
        before = admin.keys("*")
        refused(store(port, **changes))
        assert admin.keys("*") == before


def with_the_third_chunk(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    hset = redis.Redis.hset

    def act_then_send(client: redis.Redis, key: str, field: str, value: bytes) -> object:
        if field == "2":
            monkeypatch.undo()
            act()
        return hset(client, key, field, value)

    monkeypatch.setattr(redis.Redis, "hset", act_then_send)


def test_an_interrupted_push_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with servers.real(tmp_path / "redis") as port, redis.Redis(port=port) as admin, closing(store(port)) as ours:

        def interrupt() -> None:
            (upload,) = admin.keys("*")
            assert admin.hlen(upload) == 3  # its size and two chunks
            raise KeyboardInterrupt

        with_the_third_chunk(monkeypatch, interrupt)
        with pytest.raises(KeyboardInterrupt):
            ours.publish("line-1", BLOB)
        assert admin.keys("*") == []


def test_a_connection_that_broke_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server throws out who sends more than it takes at once; and it takes the next call."""
    with servers.real(tmp_path / "redis", "--proto-max-bulk-len", "1mb") as port, redis.Redis(port=port) as admin:
        monkeypatch.setattr(redis_module, "_CHUNK", 2 * MIB)
        refused(store(port))
        assert admin.keys("*") == []


def test_what_cannot_be_dropped_expires_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up in the middle: not even a deletion is taken then."""
    folder = tmp_path / "redis"
    with servers.real(folder) as port, redis.Redis(port=port) as admin:
        with_the_third_chunk(monkeypatch, lambda: break_disk(admin, folder))
        assert "make room there" in refused(store(port))
        (left,) = (key for key in admin.keys("*") if b"upload" in key)
        assert 0 < admin.ttl(left) <= 20  # ten answers of two seconds


def test_a_publisher_that_is_killed_leaves_what_expires_soon(tmp_path: Path) -> None:
    with servers.real(tmp_path / "redis") as port, redis.Redis(port=port) as admin:
        for chunk in ("0", "1"):
            script = f"""
                import os, signal, redis
                from tests.worker.bankstore.test_redis_faults import BLOB, store
                hset = redis.Redis.hset
                def dies(client, key, field, value):
                    if field == "{chunk}":
                        os.kill(os.getpid(), signal.SIGKILL)
                    return hset(client, key, field, value)
                redis.Redis.hset = dies
                store({port}).publish("line-1", BLOB)
            """
            killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, check=False)
            assert killed.returncode == -9, killed.stderr
            (left,) = admin.keys("*")
            assert 0 < admin.ttl(left) <= 20
            admin.flushall()


# What cures it


def break_disk(admin: redis.Redis, folder: Path) -> None:
    """As a full disk does: nothing can be written there, and Redis has found out."""
    shutil.rmtree(folder)
    admin.config_set("save", "1 1")
    admin.set("unsaved", b"x")
    deadline = time.monotonic() + 20
    while admin.info("persistence")["rdb_last_bgsave_status"] == "ok":
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def real(folder: Path, *options: str, set_up: Callable[[redis.Redis], object] = lambda _: None) -> Iterator[int]:
    with servers.real(folder, *options) as port, redis.Redis(port=port) as admin:
        set_up(admin)
        yield port


@contextmanager
def replica(folder: Path) -> Iterator[int]:
    with servers.real(folder / "master") as master, servers.real(folder, "--replicaof", f"127.0.0.1 {master}") as port:
        yield port


def limited(admin: redis.Redis) -> None:
    admin.config_set("maxmemory", int(admin.info()["used_memory"]) + 4 * MIB)


SEE = "see whether it hangs, or raise bank.redis.timeout_s"
PASSWORDS = {"password": {"env": "THE_PASSWORD"}}
WRONG = {"password": {"env": "HOME"}}
REAL: dict[str, tuple[Callable[[Path], Server], dict[str, object], str, str]] = {
    "out of memory": (
        lambda folder: real(folder, set_up=limited),
        {},
        "command not allowed when used memory > 'maxmemory'",
        "its memory is full: raise its 'maxmemory', or keep fewer banks (bank.redis.keep)",
    ),
    "replica": (
        replica,
        {},
        "You can't write against a read only replica",
        "it is a replica: write the address of its master into bank.redis.url",
    ),
    "missing password": (
        lambda folder: servers.real(folder, "--requirepass", PASSWORD, password=PASSWORD),
        {},
        "it asks for a password",
        "set bank.redis.password, and bank.redis.username where it has users",
    ),
    "wrong password": (
        lambda folder: servers.real(folder, "--requirepass", PASSWORD, password=PASSWORD),
        WRONG,
        "invalid username-password pair or user is disabled",
        "correct bank.redis.password or bank.redis.username",
    ),
    "unknown user": (
        lambda folder: servers.real(folder, "--requirepass", PASSWORD, password=PASSWORD),
        {"username": "nobody", **PASSWORDS},
        "invalid username-password pair or user is disabled",
        "correct bank.redis.password or bank.redis.username",
    ),
    "no permission": (
        lambda folder: real(folder, set_up=lambda admin: without(admin, "-@write")),
        {"username": "publisher", **PASSWORDS},
        "this user has no permissions to run the 'hset' command",
        "give bank.redis.username the permissions that docs/security.md lists",
    ),
    "no permission for the key": (
        lambda folder: real(folder, set_up=lambda admin: without(admin, "resetkeys", "~other:*")),
        {"username": "publisher", **PASSWORDS},
        "this user has no permissions to access one of the keys used as arguments",
        "give bank.redis.username the permissions that docs/security.md lists",
    ),
    "full disk": (
        lambda folder: real(folder, set_up=lambda admin: break_disk(admin, folder)),
        {},
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk",
        "it cannot write to its disk: make room there, or see its log for what is wrong",
    ),
    "cluster": (
        lambda folder: servers.real(folder, "--cluster-enabled", "yes"),
        {},
        "Hash slot not served",
        "it is a node of a Redis Cluster, where a line's keys lie apart: use a Redis that is none",
    ),
    "no such database": (
        servers.real,
        {"database": 99},
        "DB index is out of range",
        "correct the number of the database at the end of bank.redis.url",
    ),
    "TLS to a plain port": (
        servers.real,
        {"scheme": "rediss"},
        "no answer within 2 s",
        f"{SEE}, or write redis:// into bank.redis.url if its port has no TLS",
    ),
}


@pytest.mark.parametrize("kind", REAL)
def test_each_fault_names_its_cure(tmp_path: Path, kind: str) -> None:
    start, changes, what, cure = REAL[kind]
    with start(tmp_path / "redis") as port:
        text = refused(store(port, **changes))  # type: ignore[arg-type]
    assert text == f"Redis at 127.0.0.1:{port} cannot be used ({what}); {cure}"
    assert PASSWORD not in text


URL = "check that it runs and that bank.redis.url is right"


@pytest.mark.parametrize(
    ("changes", "what", "cure"),
    [
        (
            {"scheme": "redis"},
            "",
            f"{URL}, with rediss:// if its port has TLS",
        ),
        ({"scheme": "rediss"}, "CERTIFICATE_VERIFY_FAILED", "check 'ca', 'certificate' and 'key' in bank.redis.tls"),
    ],
    ids=["plain to a TLS port", "another authority"],
)
def test_what_a_port_with_tls_says(secured: SecureRedis, changes: dict[str, str], what: str, cure: str) -> None:
    port = int(secured.url.rpartition(":")[2].partition("/")[0])
    text = refused(store(port, **changes))
    assert text.startswith(f"Redis at 127.0.0.1:{port} cannot be used (")
    assert text.endswith(f"); {cure}")
    assert what in text


def test_a_replica_that_has_lost_its_master(tmp_path: Path) -> None:
    options = ("--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "no")
    sentence = (
        r"\(Link with MASTER is down .*\); it is a replica that has lost its master: mend that, or ask the master$"
    )
    with (
        servers.real(tmp_path / "redis", *options) as port,
        closing(store(port)) as ours,
        pytest.raises(UnavailableError, match=sentence),
    ):
        ours.current("line-1")


CLUSTER = "it is a node of a Redis Cluster, where a line's keys lie apart: use a Redis that is none"
ROTE = {
    "-LOADING Redis is loading the dataset in memory": "it is reading its data from disk: try again when it has",
    "-MOVED 3999 10.0.0.1:6381": CLUSTER,
    "-ASK 3999 10.0.0.1:6381": CLUSTER,
    "-TRYAGAIN Multiple keys request during rehashing of slot": CLUSTER,
    "-CROSSSLOT Keys in request don't hash to the same slot": CLUSTER,
    "-CLUSTERDOWN The cluster is down": CLUSTER,
    "-MISCONF Errors writing to the AOF file: No space left on device": (
        "it cannot write to its disk: make room there, or see its log for what is wrong"
    ),
    "-NOREPLICAS Not enough good replicas to write.": "start its replicas, or lower its 'min-replicas-to-write'",
    "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.": (
        "end the script that keeps it busy: redis-cli SCRIPT KILL"
    ),
    "-DENIED Redis is running in protected mode": (
        "it answers its own machine only: give it a password, and set bank.redis.password"
    ),
    "-NOAUTH Authentication required.": "set bank.redis.password, and bank.redis.username where it has users",
    "-ERR max number of clients reached": "raise its 'maxclients', or find out who holds its connections",
    "-ERR unknown command 'HSET', with args beginning with:": "use a Redis that knows it, under its own name",
    "HTTP/1.1 400 Bad Request": "what answers there is no Redis: correct host and port in bank.redis.url",
    "-ERR something new": URL,
}


@pytest.mark.parametrize("answer", ROTE)
def test_each_answer_names_its_cure(answer: str) -> None:
    with servers.listening(servers.by_rote(f"{answer}\r\n".encode())) as port:
        text = refused(store(port))
    assert text.startswith(f"Redis at 127.0.0.1:{port} cannot be used (")
    assert text.endswith(f"); {ROTE[answer]}")


def test_a_key_that_is_not_ours(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client, closing(RedisBankStore(RedisStoreSettings(url=redis_url))) as ours:
        client.lpush("bank:not-ours:current", "x")
        with pytest.raises(UnavailableError, match=r"\(WRONGTYPE .*\); a key of that name is not ours: choose another"):
            ours.current("not-ours")
        client.delete("bank:not-ours:current")


# A server that falls silent

BOUND_S = 1.8  # of one `timeout_s` of a second; three tries would take three


def silent(sent: int, reads_on: bool = True) -> Callable[[Path], Server]:
    @contextmanager
    def start(folder: Path) -> Iterator[int]:
        with ExitStack() as stack:
            port = stack.enter_context(servers.real(folder))
            yield stack.enter_context(servers.listening(servers.silent_after(port, sent, reads_on)))

    return start


SILENT: dict[str, Callable[[Path], Server]] = {
    "from the start": lambda _: servers.listening(servers.never),
    "after the handshake": silent(200),
    "in the middle of the upload": silent(5 * MIB),
    "in the middle, and it reads no more": silent(5 * MIB, reads_on=False),
}


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
@pytest.mark.parametrize("kind", SILENT)
def test_a_push_to_a_silent_server_ends_within_its_timeout(tmp_path: Path, kind: str, scheme: str) -> None:
    with SILENT[kind](tmp_path / "redis") as port:
        ours = store(port, scheme, timeout_s=1.0)
        began_s = time.monotonic()
        text = refused(ours)
        assert time.monotonic() - began_s < BOUND_S
    assert text.startswith(f"Redis at 127.0.0.1:{port} cannot be used (no answer within 1 s); see whether it hangs")


@pytest.mark.parametrize("call", ["current", "load", "versions", "activate", "look", "wait"])
def test_nothing_else_waits_longer_either(call: str) -> None:
    arguments = {"look": (), "load": ("l", "0" * 64), "activate": ("l", "0"), "wait": ("l", 1.0)}.get(call, ("l",))
    with servers.listening(servers.never) as port, closing(store(port, timeout_s=1.0)) as ours:
        began_s = time.monotonic()
        with pytest.raises(UnavailableError, match="no answer within 1 s"):
            getattr(ours, call)(*arguments)
        assert time.monotonic() - began_s < BOUND_S
