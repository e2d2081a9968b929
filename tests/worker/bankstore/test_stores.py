"""What every bank store must do, on both of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from quarterturn.worker.bankstore.base import BankStore
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import DataError, MismatchError
from tests.worker.bankstore.conftest import KEEP, OpenStore


def test_a_line_without_banks(store: BankStore, line: str) -> None:
    assert store.current(line) is None
    assert store.versions(line) == []


def test_a_published_bank_is_active_and_comes_back_whole(store: BankStore, line: str, banks: list[Bank]) -> None:
    published = store.publish(line, banks[0])
    assert published == store.current(line)
    assert (published.line, published.version, published.active) == (line, banks[0].version, True)
    assert published.size == len(banks[0].blob)
    age = datetime.now(timezone.utc) - datetime.fromisoformat(published.pushed_at.replace("Z", "+00:00"))
    assert abs(age) < timedelta(minutes=1)

    loaded = store.load(line, published.version)
    assert loaded.manifest == banks[0].manifest
    for name, values in vars(banks[0].normals[0]["frame"]).items():
        np.testing.assert_array_equal(vars(loaded.normals[0]["frame"])[name], values)
    np.testing.assert_array_equal(loaded.calibration[0].scores, banks[0].calibration[0].scores)
    assert loaded.version == published.version


def test_versions_come_newest_first(store: BankStore, line: str, banks: list[Bank]) -> None:
    for bank in banks[:3]:
        store.publish(line, bank)
    found = store.versions(line)
    assert [version.version for version in found] == [bank.version for bank in reversed(banks[:3])]
    assert [version.active for version in found] == [True, False, False]


def test_lines_do_not_see_each_other(store: BankStore, line: str, banks: list[Bank]) -> None:
    store.publish(line, banks[0])
    assert store.current(f"{line}:other") is None
    assert store.versions(f"{line}:other") == []


def test_the_same_bank_pushed_again_is_one_version(store: BankStore, line: str, banks: list[Bank]) -> None:
    first = store.publish(line, banks[0])
    store.publish(line, banks[1])
    again = store.publish(line, banks[0])
    assert [version.version for version in store.versions(line)] == [banks[0].version, banks[1].version]
    assert again.pushed_at >= first.pushed_at
    assert store.load(line, again.version).version == banks[0].version


def test_rollback_by_a_unique_prefix(store: BankStore, line: str, banks: list[Bank]) -> None:
    store.publish(line, banks[0])
    store.publish(line, banks[1])
    store.activate(line, banks[0].version[:10])
    active = store.current(line)
    assert active is not None
    assert active.version == banks[0].version
    assert [version.active for version in store.versions(line)] == [False, True]


@pytest.mark.parametrize("prefix", ["0" * 12, ""])
def test_an_unknown_version_is_refused(store: BankStore, line: str, banks: list[Bank], prefix: str) -> None:
    store.publish(line, banks[0])
    with pytest.raises(DataError, match=f"no bank '{prefix}'; 'quarterturn bank list' shows"):
        store.activate(line, prefix)
    active = store.current(line)
    assert active is not None
    assert active.version == banks[0].version


def test_an_ambiguous_prefix_is_refused(store: BankStore, line: str, banks: list[Bank]) -> None:
    twins = twins_by_first_digit(banks)
    for bank in twins:
        store.publish(line, bank)
    with pytest.raises(DataError, match=r"2 banks that begin with .*; give more digits"):
        store.activate(line, twins[0].version[0])


def twins_by_first_digit(banks: list[Bank]) -> tuple[Bank, Bank]:
    """Two banks whose versions begin with the same digit; of 17 there must be some."""
    seen: dict[str, Bank] = {}
    for bank in banks:
        digit = bank.version[0]
        if digit in seen:
            return seen[digit], bank
        seen[digit] = bank
    raise AssertionError("too few banks")


def test_loading_what_is_not_there(store: BankStore, line: str) -> None:
    with pytest.raises(DataError, match="quarterturn bank push"):
        store.load(line, "0" * 64)


def test_a_flipped_bit_is_refused_and_a_new_push_repairs_it(
    store: BankStore, line: str, banks: list[Bank], flip_bit: Callable[[str], None]
) -> None:
    version = store.publish(line, banks[0]).version
    flip_bit(version)
    with pytest.raises(MismatchError, match=f"its version says {version[:12]}; it was damaged on the way, push it"):
        store.load(line, version)
    store.publish(line, banks[0])
    assert store.load(line, version).version == version


def test_old_versions_are_dropped(store: BankStore, line: str, banks: list[Bank]) -> None:
    for bank in banks[: KEEP + 3]:
        store.publish(line, bank)
    kept = [version.version for version in store.versions(line)]
    assert kept == [bank.version for bank in reversed(banks[3 : KEEP + 3])]
    with pytest.raises(DataError):
        store.activate(line, banks[0].version)


def test_the_bank_that_served_before_a_push_is_kept_for_the_way_back(
    store: BankStore, line: str, banks: list[Bank]
) -> None:
    for bank in banks[:KEEP]:
        store.publish(line, bank)
    store.activate(line, banks[0].version)  # the oldest, and the one that works
    store.publish(line, banks[KEEP])
    assert len(store.versions(line)) == KEEP
    store.activate(line, banks[0].version)
    assert store.load(line, banks[0].version).version == banks[0].version


@pytest.mark.parametrize("change", ["publish", "activate"])
def test_waiting_ends_when_another_process_changes_the_bank(
    store: BankStore, open_store: OpenStore, line: str, banks: list[Bank], change: str
) -> None:
    other = open_store()
    first = other.publish(line, banks[0]).version
    other.publish(line, banks[1])
    store.wait(line, 0.2)  # a store may need one wait to begin listening
    assert_wakes(
        store, line, lambda: other.activate(line, first) if change == "activate" else other.publish(line, banks[2])
    )


def assert_wakes(store: BankStore, line: str, change: Callable[[], object]) -> None:
    woken = threading.Event()
    waiter = threading.Thread(target=lambda: (store.wait(line, 60.0), woken.set()))
    waiter.start()
    assert not woken.wait(0.3)  # nothing has changed yet
    change()
    assert woken.wait(5.0)
    waiter.join()


def test_waiting_ends_in_time_and_when_the_store_closes(store: BankStore, line: str, banks: list[Bank]) -> None:
    store.publish(line, banks[0])
    store.wait(line, 0.01)
    started_s = time.monotonic()
    store.wait(line, 0.2)
    assert 0.15 < time.monotonic() - started_s < 2.0
    assert_wakes(store, line, store.close)
    store.close()
    store.wait(line, 60.0)


def test_publishers_at_the_same_time_leave_a_consistent_store(
    open_store: OpenStore, line: str, banks: list[Bank]
) -> None:
    def publish_some(publisher: int) -> None:
        mine = open_store()
        for bank in banks[publisher * 3 : publisher * 3 + 8]:  # some of them the same
            mine.publish(line, bank)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(publish_some, range(4)))

    store = open_store()
    versions = store.versions(line)
    active = store.current(line)
    assert active is not None
    assert [version for version in versions if version.active] == [active]
    assert len({version.version for version in versions}) == len(versions) == KEEP
    for version in versions:
        assert store.load(line, version.version).version == version.version


def test_one_store_serves_many_threads(store: BankStore, line: str, banks: list[Bank]) -> None:
    store.publish(line, banks[0])

    def use(turn: int) -> None:
        if turn % 4 == 0:
            store.publish(line, banks[turn % 3])
        store.wait(line, 0.01)
        active = store.current(line)
        assert active is not None
        assert store.load(line, active.version).version == active.version

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(use, range(24)))
