from __future__ import annotations

import platform
import socket
from pathlib import Path
from typing import Any

import pytest

from quarterturn.worker.doctor import machine
from quarterturn.worker.doctor.check import Check
from quarterturn.worker.runtime.health import Health
from quarterturn.worker.runtime.server import HealthServer
from quarterturn.worker.settings.worker import HttpSettings, WorkerSettings

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
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]  # what was tried is gone
    assert list(machine.disks(settings(bank={"redis": {"snapshot": None}}))) == []


def test_this_machine_has_a_disk() -> None:
    (check,) = machine.disks(settings())
    assert check.found.endswith(" free for state/banks")


PLACES = {
    "transport.folder.out": lambda path: {"transport": {"folder": {"path": "pictures", "out": path}}},
    "bank.file.path": lambda path: {"bank": {"file": {"path": path}}},
    "bank.redis.snapshot": lambda path: {"bank": {"redis": {"snapshot": path}}},
}


@pytest.mark.parametrize("setting", PLACES)
@pytest.mark.parametrize(
    ("place", "reason"), [("/proc/x/o", "No such file or directory"), ("{}/file/o", "Not a directory")]
)
def test_a_place_that_cannot_be_written(tmp_path: Path, setting: str, place: str, reason: str) -> None:
    (tmp_path / "file").write_text("a file where a folder is needed")
    path = place.format(tmp_path)
    check = next(check for check in machine.disks(settings(**PLACES[setting](path))) if check.found.startswith(path))
    consequence = {
        "transport.folder.out": "",
        "bank.file.path": ": no bank can be pushed",
        "bank.redis.snapshot": ": no local copy of a bank is kept to start with while Redis is gone",
    }[setting]
    assert check.found == f"{path}: cannot be written ({reason}){consequence}"
    assert check.status == ("warning" if consequence else "failure")  # a worker only reads its banks
    assert check.fix == f"correct {setting}, or the permissions there"


def test_an_out_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_bytes(b"as it was")
    (check,) = machine.disks(settings(bank={"redis": {"snapshot": None}}, **PLACES["transport.folder.out"](tmp_path)))
    assert (check.status, check.found) == ("failure", f"{tmp_path}: cannot be written (Is a directory)")
    path = tmp_path / "out.jsonl"
    (check,) = machine.disks(settings(bank={"redis": {"snapshot": None}}, **PLACES["transport.folder.out"](path)))
    assert check.found.endswith(f"free for {path}")
    assert path.read_bytes() == b"as it was"


def test_a_port_that_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert list(machine.http(HttpSettings(port=port))) == [Check("http", "ok", f"127.0.0.1:{port} is free")]
    assert list(machine.http(HttpSettings(port=0))) == [Check("http", "ok", "127.0.0.1, any free port")]
    assert list(machine.http(None)) == [Check("http", "skipped", "not needed: 'http: null'")]


def test_a_port_that_another_process_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_PATIENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (check,) = machine.http(HttpSettings(port=port))
    found = f"http: cannot listen on 127.0.0.1:{port} (Address already in use)"
    assert check == Check("http", "failure", found, "set another http.port, or 'http: null' for none")


def test_a_port_that_a_worker_has() -> None:
    with HealthServer(Health(), HttpSettings(port=0)) as running:
        (check,) = machine.http(HttpSettings(port=running.port))
    fix = "if it is another line's, set another http.port"
    assert check == Check("http", "warning", f"a worker runs at 127.0.0.1:{running.port}", fix)
