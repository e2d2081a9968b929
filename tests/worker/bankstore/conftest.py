"""The stores under test, and a line of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from quarterturn.worker.bankstore.base import BankStore
from quarterturn.worker.bankstore.file import FileBankStore
from quarterturn.worker.bankstore.redis import RedisBankStore
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.settings.worker import RedisStoreSettings
from tests.parts import NumpyEngine, bank_of

KEEP = 4
OpenStore = Callable[[], BankStore]


@pytest.fixture(scope="session")
def banks() -> list[Bank]:
    """Different small banks of one engine."""
    engine = NumpyEngine(dimensions=2)
    return [bank_of(engine, count=3, seed=seed) for seed in range(20)]


@pytest.fixture
def line() -> str:
    return f"line-{uuid.uuid4().hex[:8]}"


@pytest.fixture(params=["file", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path, line: str) -> Iterator[OpenStore]:
    """Opens the same store any number of times, as processes would."""
    opened: list[BankStore] = []
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None

    def open_one() -> BankStore:
        if url is None:
            opened.append(FileBankStore(tmp_path / "banks", keep=KEEP))
        else:
            opened.append(RedisBankStore(RedisStoreSettings(url=url, keep=KEEP)))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()
    if url is not None:
        with redis.Redis.from_url(url) as client:
            client.delete(*(client.keys(f"bank:{line}:*") or [b"none"]))


@pytest.fixture
def store(open_store: OpenStore) -> BankStore:
    return open_store()


@pytest.fixture
def flip_bit(request: pytest.FixtureRequest, store: BankStore, tmp_path: Path, line: str) -> Callable[[str], None]:
    """Damages one stored version behind the store's back."""

    def flip(version: str) -> None:
        if isinstance(store, FileBankStore):
            path = tmp_path / "banks" / line / f"{version}.safetensors"
            blob = bytearray(path.read_bytes())
            blob[-1] ^= 1
            path.write_bytes(blob)
            return
        with redis.Redis.from_url(request.getfixturevalue("redis_url")) as client:
            key = f"bank:{line}:v:{version}"
            chunk = bytearray(client.hget(key, "0") or b"")
            chunk[-1] ^= 1
            client.hset(key, "0", bytes(chunk))

    return flip
