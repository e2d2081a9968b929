from __future__ import annotations

import logging
import queue
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from quarterturn.worker.bankstore.base import BankStore
from quarterturn.worker.bankstore.file import FileBankStore
from quarterturn.worker.bankstore.redis import RedisBankStore
from quarterturn.worker.bankstore.watch import BankWatcher
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import DataError, MismatchError, UnavailableError
from quarterturn.worker.settings.worker import RedisStoreSettings

LINE = "line-1"


@dataclass
class Taken:
    """Stands for the inspector: takes banks into service, and refuses those named."""

    versions: queue.Queue[str] = field(default_factory=queue.Queue)
    refuses: set[str] = field(default_factory=set)

    def __call__(self, bank: Bank, version: str) -> None:
        assert bank.version == version
        if version in self.refuses:
            raise MismatchError(f"bank {version[:12]} was made by another engine")
        self.versions.put(version)

    def next(self) -> str:
        return self.versions.get(timeout=10)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileBankStore]:
    store = FileBankStore(tmp_path / "banks")
    yield store
    store.close()


class Watch:
    """Makes watchers that all hand their banks to `taken`."""

    def __init__(self) -> None:
        self.taken = Taken()
        self.made: list[BankWatcher] = []

    def __call__(
        self, store: BankStore, snapshot: BankStore | None = None, tidy: Callable[[], object] = lambda: None
    ) -> BankWatcher:
        self.made.append(BankWatcher(store, LINE, self.taken, poll_s=0.1, snapshot=snapshot, tidy=tidy))
        return self.made[-1]


@pytest.fixture
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    for watcher in watch.made:
        watcher.close()


def await_that(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"never so: {what}"
        time.sleep(0.01)


def await_state(watcher: BankWatcher, beginning: str) -> None:
    await_that(lambda: watcher.state.startswith(beginning), f"the state begins with {beginning!r}")


def test_serves_the_current_bank_then_each_new_one(store: FileBankStore, watch: Watch, banks: list[Bank]) -> None:
    store.publish(LINE, banks[0])
    watcher = watch(store)
    watcher.start()
    assert watch.taken.versions.get_nowait() == banks[0].version  # before `start` returns
    store.publish(LINE, banks[1])
    assert watch.taken.next() == banks[1].version
    store.activate(LINE, banks[0].version)
    assert watch.taken.next() == banks[0].version
    assert watcher.state == "ok"
    assert watch.taken.versions.empty()


def test_what_a_bank_leaves_behind_is_tidied_when_it_serves_and_when_its_copy_is_written(
    store: FileBankStore, watch: Watch, banks: list[Bank], tmp_path: Path
) -> None:
    copies = FileBankStore(tmp_path / "snapshot")
    tidied: list[tuple[bool, bool]] = []

    def tidy() -> None:
        tidied.append((not watch.taken.versions.empty(), copies.current(LINE) is not None))

    watcher = watch(store, copies, tidy)
    store.publish(LINE, banks[0])
    watcher.start()
    assert tidied == [(True, False), (True, True)]


def test_a_line_without_a_bank_says_how_to_push_one(store: FileBankStore, watch: Watch) -> None:
    with pytest.raises(DataError, match=r"^line 'line-1' has no bank; push one with 'quarterturn bank push'$"):
        watch(store).start()


def test_the_first_bank_must_fit(store: FileBankStore, watch: Watch, banks: list[Bank]) -> None:
    watch.taken.refuses.add(store.publish(LINE, banks[0]).version)
    with pytest.raises(MismatchError, match="another engine"):
        watch(store).start()


def test_a_new_bank_that_does_not_fit_is_refused_once_and_the_old_one_serves_on(
    store: FileBankStore,
    watch: Watch,
    banks: list[Bank],
    caplog: pytest.LogCaptureFixture,
) -> None:
    store.publish(LINE, banks[0])
    watcher = watch(store)
    watcher.start()
    watch.taken.refuses.add(banks[1].version)
    with caplog.at_level(logging.INFO):
        store.publish(LINE, banks[1])
        await_state(watcher, f"bank {banks[1].version[:12]} is refused: bank {banks[1].version[:12]} was made by")
        time.sleep(0.5)  # several polls, in which nothing more may happen
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
    assert f"bank {banks[0].version[:12]} is in service" in caplog.text
    store.activate(LINE, banks[0].version)  # the rollback to what is in service
    await_state(watcher, "ok")
    store.publish(LINE, banks[2])
    assert [watch.taken.next(), watch.taken.next()] == [banks[0].version, banks[2].version]


def test_a_damaged_bank_is_refused_until_it_is_pushed_again(
    store: FileBankStore, watch: Watch, banks: list[Bank], tmp_path: Path
) -> None:
    store.publish(LINE, banks[1])
    store.publish(LINE, banks[0])
    path = tmp_path / "banks" / LINE / f"{banks[1].version}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    watcher = watch(store)
    watcher.start()
    store.activate(LINE, banks[1].version)
    await_state(watcher, f"bank {banks[1].version[:12]} is refused: {path}: the bank's content has hash")
    store.publish(LINE, banks[1])
    assert [watch.taken.next(), watch.taken.next()] == [banks[0].version, banks[1].version]
    await_state(watcher, "ok")


def test_an_unexpected_fault_is_shown_and_tried_again(
    store: FileBankStore,
    watch: Watch,
    banks: list[Bank],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store.publish(LINE, banks[0])
    watcher = watch(store)
    watcher.start()
    with monkeypatch.context() as broken:
        broken.setattr(FileBankStore, "current", lambda *_: 1 / 0)
        await_state(watcher, "failing: ZeroDivisionError: division by zero")
    await_state(watcher, "ok")
    store.publish(LINE, banks[1])
    assert [watch.taken.next(), watch.taken.next()] == [banks[0].version, banks[1].version]


class OwnRedis:
    """A redis-server of this test's own, which keeps its data while it is stopped."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.store = self.open_store()

    def open_store(self) -> RedisBankStore:
        return RedisBankStore(RedisStoreSettings(url=f"redis://127.0.0.1:{self.port}/0"))

    def start(self) -> None:
        command = f"redis-server --port {self.port} --bind 127.0.0.1 --save  --appendonly yes --appendfsync always"
        self.process = subprocess.Popen([*command.split(" "), "--dir", str(self.folder)], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self.answers():
            assert time.monotonic() < deadline, "redis-server does not start"
            time.sleep(0.02)

    def answers(self) -> bool:
        try:
            with redis.Redis(port=self.port, retry=None) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def own_redis(tmp_path: Path, redis_url: str) -> Iterator[OwnRedis]:
    """Needs the program; `redis_url` has installed it, unless the tests use somebody's server."""
    if shutil.which("redis-server") is None:
        pytest.skip(f"redis-server is not installed here, and {redis_url} must not be stopped")
    folder = tmp_path / "redis"
    folder.mkdir()
    server = OwnRedis(folder)
    server.start()
    yield server
    server.store.close()
    server.stop()


def test_redis_stopped_and_started_again(
    own_redis: OwnRedis,
    watch: Watch,
    banks: list[Bank],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    own_redis.store.publish(LINE, banks[0])
    snapshot = FileBankStore(tmp_path / "snapshot")
    watcher = watch(own_redis.store, snapshot)
    watcher.start()
    assert watch.taken.next() == banks[0].version

    with caplog.at_level(logging.WARNING):
        own_redis.stop()
        await_state(watcher, "unreachable since 20")
        time.sleep(1.0)  # several polls
        assert [record.levelname for record in caplog.records] == ["WARNING"]  # said once
    own_redis.start()
    await_state(watcher, "ok")

    publisher = own_redis.open_store()
    publisher.publish(LINE, banks[1])
    publisher.close()
    assert watch.taken.next() == banks[1].version
    await_that(lambda: [v.version for v in snapshot.versions(LINE) if v.active] == [banks[1].version], "a copy is kept")
    assert watch.taken.versions.empty()


def test_redis_that_comes_back_empty(own_redis: OwnRedis, watch: Watch, banks: list[Bank]) -> None:
    own_redis.store.publish(LINE, banks[0])
    watcher = watch(own_redis.store)
    watcher.start()
    with redis.Redis(port=own_redis.port) as client:
        client.flushall()
    await_state(watcher, "the store holds no bank of this line")
    own_redis.store.publish(LINE, banks[0])
    await_state(watcher, "ok")
    assert watch.taken.versions.qsize() == 1


def test_a_start_without_redis_takes_the_snapshot_and_then_what_redis_has(
    own_redis: OwnRedis,
    watch: Watch,
    banks: list[Bank],
    tmp_path: Path,
) -> None:
    own_redis.store.publish(LINE, banks[1])
    own_redis.stop()
    snapshot = FileBankStore(tmp_path / "snapshot")
    snapshot.publish(LINE, banks[0])
    watcher = watch(own_redis.store, snapshot)
    watcher.start()
    assert watch.taken.versions.get_nowait() == banks[0].version
    assert watcher.state.startswith("unreachable since 20")
    own_redis.start()
    assert watch.taken.next() == banks[1].version
    await_state(watcher, "ok")


def test_a_start_on_a_redis_that_came_back_empty_takes_the_snapshot(
    own_redis: OwnRedis, watch: Watch, banks: list[Bank], tmp_path: Path
) -> None:
    snapshot = FileBankStore(tmp_path / "snapshot")
    snapshot.publish(LINE, banks[0])
    watcher = watch(own_redis.store, snapshot)
    watcher.start()
    assert watch.taken.versions.get_nowait() == banks[0].version
    assert watcher.state == "the store holds no bank of this line (any more); push one"
    own_redis.store.publish(LINE, banks[1])
    assert watch.taken.next() == banks[1].version
    await_state(watcher, "ok")


@pytest.mark.parametrize("with_snapshot", [True, False])
def test_a_start_without_redis_and_without_a_copy_is_one_sentence(
    own_redis: OwnRedis,
    watch: Watch,
    tmp_path: Path,
    with_snapshot: bool,
) -> None:
    own_redis.stop()
    watcher = watch(own_redis.store, FileBankStore(tmp_path / "snapshot") if with_snapshot else None)
    with pytest.raises(UnavailableError, match=r"^Redis at .* cannot be used .*; no local copy of a bank is there"):
        watcher.start()


def test_a_snapshot_that_cannot_be_written_is_no_reason_to_stop(
    store: FileBankStore,
    watch: Watch,
    banks: list[Bank],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "snapshot").write_text("a file, not a folder")
    store.publish(LINE, banks[0])
    watcher = watch(store, FileBankStore(tmp_path / "snapshot"))
    watcher.start()
    assert watch.taken.next() == banks[0].version
    assert watcher.state == "ok"
    assert "no local copy of bank" in caplog.text


def test_closing_ends_the_thread(store: FileBankStore, watch: Watch, banks: list[Bank]) -> None:
    store.publish(LINE, banks[0])
    watcher = watch(store)
    watcher.start()
    watch.taken.next()
    watcher.close()
    store.publish(LINE, banks[1])
    watcher.close()
    with pytest.raises(queue.Empty):
        watch.taken.versions.get(timeout=0.3)
