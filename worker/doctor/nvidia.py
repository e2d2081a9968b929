"""JetPack, CUDA driver, GPU and TensorRT, without importing a package of NVIDIA's: one that does not fit may crash."""

from __future__ import annotations

import ctypes
import importlib.metadata
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from quarterturn.worker.doctor.check import Check

_DRIVER = "libcuda.so.1"
_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76  # CUdevice_attribute
_TENSORRT = ("tensorrt-cu13", "tensorrt-cu12", "tensorrt")  # what it is installed as; the last is JetPack's
_CUDA = 13  # of the packages that are advised where there is no driver to go by
_OLDEST_TENSORRT = (10, 3)
_JETPACKS = {35: "5", 36: "6", 38: "7", 39: "7"}  # by Jetson Linux
_JETPACK6, _JETPACK7 = (36, 4), (38, 0)  # the first Jetson Linux with a TensorRT that the worker supports
_JETPACK6_TENSORRT = (
    "make virtual environments with --system-site-packages, and run: sudo apt-get install tensorrt python3-libnvinfer"
)

Version = tuple[int, int]


class _DriverError(Exception):
    """The CUDA driver cannot be used; the text says what it answered."""


@dataclass(frozen=True, slots=True)
class Device:
    """The first GPU, and the CUDA version of its driver."""

    name: str
    compute: Version
    memory: int
    cuda: Version


def checks(
    target: str,
    root: Path = Path("/"),
    load: Callable[[str], Any] = ctypes.CDLL,
    installed: Callable[[str], str] = importlib.metadata.version,
) -> Iterator[Check]:
    """What an engine for `target` needs of NVIDIA.

    Args:
        target: the engine's; only "tensorrt" needs any of it.
        root: where etc/nv_tegra_release lies on a Jetson.
        load: opens a shared library.
        installed: the version of an installed distribution; raises PackageNotFoundError.
    """
    if target != "tensorrt":
        yield Check("GPU", "skipped", f"not needed: engine.target is {target}")
        return
    linux = _jetson_linux(root)
    if linux is not None:
        yield _jetpack(linux)
    cuda = _CUDA
    try:
        device = _read_device(load)
    except _DriverError as error:
        yield Check("CUDA driver", "failure", str(error), _driver_fix(linux))
        yield Check("GPU", "skipped", "not looked at: there is no driver to ask")
    else:
        yield Check("CUDA driver", "ok", f"for CUDA {_text(device.cuda)}")
        compute = f"compute capability {_text(device.compute)}"
        yield Check("GPU", "ok", f"{device.name}, {compute}, {decimal(device.memory)}")
        yield _bindings(_version(installed, "cuda-bindings"), device.cuda)
        cuda = device.cuda[0]
    versions = {name: version for name in _TENSORRT if (version := _version(installed, name))}
    yield _tensorrt(versions, cuda, linux)


def _jetson_linux(root: Path) -> Version | None:
    """The release of Jetson Linux, such as (36, 4); None: no Jetson."""
    try:
        text = (root / "etc/nv_tegra_release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"R(\d+) \(release\), REVISION: (\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def _jetpack(linux: Version) -> Check:
    found = f"{_JETPACKS.get(linux[0], 'unknown')}, Jetson Linux {_text(linux)}"
    if linux >= _JETPACK6:
        return Check("JetPack", "ok", found)
    return Check(
        "JetPack", "failure", f"{found}: its TensorRT is older than 10.3", "flash JetPack 6.2, see docs/jetson.md"
    )


def _read_device(load: Callable[[str], Any]) -> Device:
    """Ask the driver itself: what it answers here is what TensorRT will get."""
    try:
        driver = load(_DRIVER)
    except OSError as error:
        raise _DriverError(f"{_DRIVER} cannot be loaded ({error})") from error
    _call(driver, "cuInit", 0)
    cuda, count, major, minor = (ctypes.c_int() for _ in range(4))
    name, memory = ctypes.create_string_buffer(128), ctypes.c_size_t()
    _call(driver, "cuDriverGetVersion", ctypes.byref(cuda))
    _call(driver, "cuDeviceGetCount", ctypes.byref(count))
    if count.value == 0:
        raise _DriverError("the driver sees no GPU")
    _call(driver, "cuDeviceGetName", name, len(name), 0)
    _call(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), 0)
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(major), _COMPUTE_MAJOR, 0)
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(minor), _COMPUTE_MINOR, 0)
    version = (cuda.value // 1000, cuda.value % 1000 // 10)
    return Device(name.value.decode(errors="replace"), (major.value, minor.value), memory.value, version)


def _call(driver: Any, function: str, *arguments: Any) -> None:
    code = getattr(driver, function)(*arguments)
    if code:
        text = ctypes.c_char_p()
        driver.cuGetErrorName(code, ctypes.byref(text))
        raise _DriverError(f"{function} fails with {(text.value or str(code).encode()).decode()}")


def _driver_fix(linux: Version | None) -> str:
    if linux is not None:
        return "start the container with '--runtime nvidia'; who is not root must be in the groups 'video' and 'render'"
    return "install NVIDIA's driver until 'nvidia-smi' works; start a container with '--gpus all'"


def _bindings(version: str | None, cuda: Version) -> Check:
    install = _install(f"cuda-bindings=={cuda[0]}.*")
    if version is None:
        return Check("CUDA bindings", "failure", "not installed", install)
    if _parse(version)[0] <= cuda[0]:
        return Check("CUDA bindings", "ok", version)
    found = f"{version} need a driver for CUDA {_parse(version)[0]}, this one is for CUDA {_text(cuda)}"
    return Check("CUDA bindings", "failure", found, f"install a newer driver, or run: {install}")


def _tensorrt(versions: Mapping[str, str], cuda: int, linux: Version | None) -> Check:
    bound = linux is not None and linux < _JETPACK7
    fix = _JETPACK6_TENSORRT if bound else _install(f"tensorrt-cu{cuda}==10.16.*")
    if not versions:
        return Check("TensorRT", "failure", "not installed for this Python", fix)
    name, version = next(iter(versions.items()))
    found = version
    if bound and _parse(version) != _OLDEST_TENSORRT:
        found += " does not suit JetPack 6, which is bound to 10.3"
    elif _parse(version) < _OLDEST_TENSORRT:
        found += " is older than 10.3"
    elif name == "tensorrt-cu13" and cuda < 13:
        found += f" is for CUDA 13, the driver for CUDA {cuda}"
    else:
        return Check("TensorRT", "ok", version)
    return Check("TensorRT", "failure", found, fix)


def _install(requirement: str) -> str:
    return f"pip install '{requirement}'"


def _version(installed: Callable[[str], str], distribution: str) -> str | None:
    try:
        return installed(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _parse(version: str) -> Version:
    major, minor, *_ = version.split(".")
    return int(major), int(minor)


def _text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
