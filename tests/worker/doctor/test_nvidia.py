"""The checks against a driver that answers as the documentation of the CUDA driver API says, and a Jetson's files."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from quarterturn.worker.doctor import nvidia
from quarterturn.worker.doctor.check import Check

ORIN = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan 8 2025\n"
PERMISSION = {800: b"CUDA_ERROR_NOT_PERMITTED", 100: b"CUDA_ERROR_NO_DEVICE"}


class FakeDriver:
    """libcuda's C functions, which write through the pointers they are given and return 0 or an error's number."""

    def __init__(self, cuda: int = 12060, count: int = 1, fails: Mapping[str, int] = {}) -> None:
        self._cuda, self._count, self._fails = cuda, count, fails

    def __getattr__(self, function: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            if code := self._fails.get(function):
                return code
            answers: Mapping[str, Callable[..., None]] = {
                "cuInit": lambda flags: None,
                "cuDriverGetVersion": lambda version: _write(version, self._cuda),
                "cuDeviceGetCount": lambda count: _write(count, self._count),
                "cuDeviceGetName": lambda name, size, device: setattr(name, "value", b"Orin"),
                "cuDeviceTotalMem_v2": lambda memory, device: _write(memory, 7_800_000_000),
                "cuDeviceGetAttribute": lambda value, which, device: _write(value, {75: 8, 76: 7}[which]),
                "cuGetErrorName": lambda code, name: _write(name, PERMISSION.get(code)),
            }
            answers[function](*arguments)
            return 0

        return call


def _write(pointer: Any, value: Any) -> None:
    pointer._obj.value = value


def run(
    tmp_path: Path,
    driver: FakeDriver | None = None,
    release: str | None = ORIN,
    installed: Mapping[str, str] = {"tensorrt": "10.3.0", "cuda-bindings": "12.9.10"},
) -> dict[str, Check]:
    if release is not None:
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc/nv_tegra_release").write_text(release)

    def load(name: str) -> FakeDriver:
        assert name == "libcuda.so.1"
        if driver is None:
            raise OSError(f"{name}: cannot open shared object file")
        return driver

    def version(distribution: str) -> str:
        try:
            return installed[distribution]
        except KeyError:
            raise importlib.metadata.PackageNotFoundError(distribution) from None

    return {check.name: check for check in nvidia.checks("tensorrt", tmp_path, load, version)}


def test_a_target_on_the_cpu_needs_none_of_it() -> None:
    def load(name: str) -> None:
        raise AssertionError(f"{name} was loaded")

    assert list(nvidia.checks("openvino", load=load)) == [
        Check("GPU", "skipped", "not needed: engine.target is openvino")
    ]


def test_a_jetson_with_jetpack_6(tmp_path: Path) -> None:
    assert list(run(tmp_path, FakeDriver()).values()) == [
        Check("JetPack", "ok", "6, Jetson Linux 36.4"),
        Check("CUDA driver", "ok", "for CUDA 12.6"),
        Check("GPU", "ok", "Orin, compute capability 8.7, 7.8 GB"),
        Check("CUDA bindings", "ok", "12.9.10"),
        Check("TensorRT", "ok", "10.3.0"),
    ]


def test_a_server(tmp_path: Path) -> None:
    found = run(tmp_path, FakeDriver(13000), None, {"tensorrt-cu13": "10.16.1.11", "cuda-bindings": "13.5.0"})
    assert {name: check.status for name, check in found.items()} == dict.fromkeys(
        ("CUDA driver", "GPU", "CUDA bindings", "TensorRT"), "ok"
    )
    assert found["TensorRT"].found == "10.16.1.11"


def test_a_jetson_with_jetpack_7(tmp_path: Path) -> None:
    release = ORIN.replace("R36", "R39").replace("4.3", "2.0")
    found = run(tmp_path, FakeDriver(13020), release, {"tensorrt-cu13": "10.16.1.11", "cuda-bindings": "13.2.0"})
    assert found["JetPack"] == Check("JetPack", "ok", "7, Jetson Linux 39.2")
    assert {check.status for check in found.values()} == {"ok"}


@pytest.mark.parametrize(
    ("release", "known"), [("R36 (release), REVISION: 3.0", "6"), ("R35 (release), REVISION: 6.0", "5")]
)
def test_a_jetpack_that_is_too_old(tmp_path: Path, release: str, known: str) -> None:
    check = run(tmp_path, FakeDriver(), release)["JetPack"]
    assert check.status == "failure"
    assert check.found.startswith(f"{known}, Jetson Linux ")
    assert check.fix == "flash JetPack 6.2, see docs/jetson.md"


@pytest.mark.parametrize(
    ("release", "fix"),
    [
        (ORIN, "'--runtime nvidia'; who is not root must be in the groups 'video' and 'render'"),
        (None, "until 'nvidia-smi' works"),
    ],
)
@pytest.mark.parametrize(
    ("driver", "found"),
    [
        (None, "libcuda.so.1 cannot be loaded (libcuda.so.1: cannot open shared object file)"),
        (FakeDriver(fails={"cuInit": 100}), "cuInit fails with CUDA_ERROR_NO_DEVICE"),
        (FakeDriver(fails={"cuDeviceGetName": 800}), "cuDeviceGetName fails with CUDA_ERROR_NOT_PERMITTED"),
        (FakeDriver(fails={"cuInit": 12345}), "cuInit fails with 12345"),
        (FakeDriver(count=0), "the driver sees no GPU"),
    ],
)
def test_a_driver_that_cannot_be_used(
    tmp_path: Path, driver: FakeDriver | None, found: str, release: str | None, fix: str
) -> None:
    checks = run(tmp_path, driver, release)
    assert checks["CUDA driver"].status == "failure"
    assert checks["CUDA driver"].found == found
    assert fix in checks["CUDA driver"].fix
    assert checks["GPU"] == Check("GPU", "skipped", "not looked at: there is no driver to ask")
    assert "CUDA bindings" not in checks
    assert checks["TensorRT"].status == "ok"


def test_bindings_for_a_newer_cuda_than_the_driver(tmp_path: Path) -> None:
    """What constraints.txt holds for torch's sake does not run on JetPack 6."""
    check = run(tmp_path, FakeDriver(), installed={"tensorrt": "10.3.0", "cuda-bindings": "13.4.4"})["CUDA bindings"]
    assert check.status == "failure"
    assert check.found == "13.4.4 need a driver for CUDA 13, this one is for CUDA 12.6"
    assert check.fix == "install a newer driver, or run: pip install 'cuda-bindings==12.*'"


def test_nothing_is_installed(tmp_path: Path) -> None:
    found = run(tmp_path, FakeDriver(), installed={})
    assert found["CUDA bindings"] == Check(
        "CUDA bindings", "failure", "not installed", "pip install 'cuda-bindings==12.*'"
    )
    assert found["TensorRT"].found == "not installed for this Python"
    assert found["TensorRT"].fix.endswith("run: sudo apt-get install tensorrt python3-libnvinfer")
    assert "--system-site-packages" in found["TensorRT"].fix


@pytest.mark.parametrize(
    ("release", "version", "found"),
    [
        (ORIN, "10.13.3", "10.13.3 does not suit JetPack 6, which is bound to 10.3"),
        (ORIN, "8.6.2", "8.6.2 does not suit JetPack 6, which is bound to 10.3"),
        (None, "10.2.0", "10.2.0 is older than 10.3"),
    ],
)
def test_a_tensorrt_that_does_not_suit(tmp_path: Path, release: str | None, version: str, found: str) -> None:
    check = run(tmp_path, FakeDriver(), release, {"tensorrt": version, "cuda-bindings": "12.9.10"})["TensorRT"]
    assert (check.status, check.found) == ("failure", found)
    assert ("apt-get" in check.fix) == (release is not None)


def test_a_tensorrt_for_a_newer_cuda_than_the_driver(tmp_path: Path) -> None:
    packages = {"tensorrt": "10.16.1.11", "tensorrt-cu13": "10.16.1.11", "cuda-bindings": "12.9.10"}
    check = run(tmp_path, FakeDriver(12080), None, packages)["TensorRT"]
    assert (check.status, check.found) == ("failure", "10.16.1.11 is for CUDA 13, the driver for CUDA 12")
    assert check.fix == "pip install 'tensorrt-cu12==10.16.*'"


def test_a_release_file_that_says_something_else(tmp_path: Path) -> None:
    assert "JetPack" not in run(tmp_path, FakeDriver(), "not a release")
