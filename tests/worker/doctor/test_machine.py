from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest

from quarterturn.worker.doctor import machine
from quarterturn.worker.settings.worker import WorkerSettings

REDIS_AND_KAFKA: dict[str, Any] = {"bank": {"redis": {"snapshot": "state/banks"}}, "transport": {"kafka": {}}}


def settings(**changes: Any) -> WorkerSettings:
    return WorkerSettings.model_validate({"line": "line-1", "engine": {"path": "engine"}, **REDIS_AND_KAFKA, **changes})


@pytest.mark.parametrize("version", [(3, 10), (3, 13)])
def test_a_python_that_is_tested(version: tuple[int, int]) -> None:
    check = machine.python(version)
    assert check.status == "ok"
    assert check.found.startswith(f"{platform.python_version()} on {platform.machine()}, Quarterturn ")
    assert check.fix == ""


@pytest.mark.parametrize("version", [(3, 9), (3, 14)])
def test_a_python_that_is_not(version: tuple[int, int]) -> None:
    check = machine.python(version)
    assert (check.status, check.fix) == ("warning", "use Python 3.10 to 3.13")


@pytest.mark.parametrize(
    ("free", "status"),
    [(2 * 10**9, "ok"), (2 * 10**9 - 1, "warning"), (200 * 10**6, "warning"), (200 * 10**6 - 1, "failure")],
)
def test_a_disk_that_fills_up(free: int, status: str) -> None:
    (check,) = machine.disks(settings(), lambda _: free)
    assert check.status == status
    assert check.found.endswith("free for state/banks")
    assert ("docker image prune" in check.fix) == (status != "ok")


def test_the_disks_are_those_that_the_worker_writes_to(tmp_path: Path) -> None:
    asked: list[Path] = []

    def free(path: Path) -> int:
        asked.append(path)
        return 10**12

    (tmp_path / "there").mkdir()
    folders = settings(
        bank={"file": {"path": f"{tmp_path}/there/banks/of/all"}},
        transport={"folder": {"path": "pictures", "out": f"{tmp_path}/out/results.jsonl"}},
    )
    found = [check.found for check in machine.disks(folders, free)]
    assert found == [
        f"1.0 TB free for {tmp_path}/there/banks/of/all",
        f"1.0 TB free for {tmp_path}/out/results.jsonl",
    ]
    assert asked == [tmp_path / "there", tmp_path]  # the nearest folder that exists
    assert list(machine.disks(settings(bank={"redis": {"snapshot": None}}))) == []


def test_this_machine_has_a_disk() -> None:
    (check,) = machine.disks(settings())
    assert check.found.endswith(" free for state/banks")
