"""The Dockerfiles' own install steps, in a clean virtual environment: what comes along, how large it is, and whether it
starts. Only what NVIDIA alone distributes is left out: TensorRT and the base image."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docker.dockerfile import IMAGES, ROOT, installs, read, values

pytestmark = pytest.mark.timeout(600)  # the first test of an image waits for its downloads

MEGABYTES = {"cpu": 600, "gpu": 400, "jetson": 400}  # without TensorRT
COMPILERS = {"cc", "c++", "gcc", "g++", "clang", "nvcc", "ld", "as", "cmake", "ninja", "rustc", "ptxas"}


@dataclass(frozen=True)
class Installed:
    """An environment that a Dockerfile's steps have filled."""

    image: str
    folder: Path

    @property
    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in it, in an empty folder, so that nothing of the repository is found by accident."""
        empty = self.folder.parent / "empty"
        empty.mkdir(exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
        return subprocess.run(
            [str(self.folder / "bin/python"), *arguments],
            capture_output=True,
            text=True,
            cwd=empty,
            env=environment,
            check=False,
        )


@pytest.fixture(scope="module", params=IMAGES)
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    dockerfile = read(request.param)
    root = tmp_path_factory.mktemp(request.param)
    source, folder = root / "src", root / "quarterturn"
    venv.create(folder)  # without pip, as in the image
    for copied in dockerfile.copied:
        if copied.endswith("/"):
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / copied, source / copied, symlinks=True, ignore=skipped)
        else:
            source.mkdir(exist_ok=True)
            shutil.copy(ROOT / copied, source)
    # The shell step in front of the board's pip: without torch's CUDA bindings.
    locked = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("cuda-bind")]
    (source / "locked.txt").write_text("\n".join(locked))
    for arguments in installs(dockerfile.build):
        steps = [filled for each in arguments for filled in _filled(each, request.param)]
        if not any(each.startswith("tensorrt-cu13==") for each in steps):
            pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(folder / "bin/python"), *steps]
            done = subprocess.run(pip, capture_output=True, text=True, cwd=source, check=False)
            assert done.returncode == 0, done.stderr
    return Installed(request.param, folder)


def _filled(argument: str, image: str) -> list[str]:
    """An argument with the build arguments' values, as JetPack 6 has them."""
    if argument == "${NVIDIA_PACKAGES}":
        (packages,) = re.findall(r'NVIDIA_PACKAGES="(.*)"', values(read(image).stages[0], "ENV")[0])
        return str(packages).split()
    return [argument]


def test_the_environment_is_small(installed: Installed) -> None:
    size = sum(path.stat().st_size for path in installed.files)
    assert 100e6 < size < MEGABYTES[installed.image] * 1e6, f"{size / 1e6:.0f} MB"


def test_neither_torch_nor_a_compiler_came_along(installed: Installed) -> None:
    done = installed.run("-c", "import importlib.metadata as m; print(*(d.name for d in m.distributions()))")
    names = {name.lower() for name in done.stdout.split()}
    assert {"quarterturn", "kafka-python", "redis"} <= names
    assert not names & {"torch", "triton", "onnx", "onnxscript", "tensorboard", "pip", "setuptools", "pytest"}
    assert not {name for name in names if name.startswith("nvidia-")}
    assert not {path.name for path in installed.files if os.access(path, os.X_OK)} & COMPILERS


def test_every_dependency_has_its_locked_version(installed: Installed) -> None:
    script = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    found = json.loads(installed.run("-c", script).stdout)
    locked = re.findall(r"^(\S+)==(\S+)", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    allowed: dict[str, set[str]] = {}
    for name, version in locked:  # some have a version for each Python
        allowed.setdefault(name, set()).add(version)
    del found["quarterturn"]
    bindings = found.pop("cuda-bindings", None)
    assert bindings is None or bindings.split(".")[0] == {"gpu": "13", "jetson": "12"}[installed.image]
    assert {
        name: version for name, version in found.items() if version not in allowed[name.lower().replace("_", "-")]
    } == {}


def test_the_worker_starts_in_it(installed: Installed) -> None:
    version = installed.run("-m", "quarterturn", "--version")
    assert (version.returncode, version.stderr) == (0, "")
    config = ("--config", str(ROOT / "configs/worker.yaml"))
    alone = ("bank={file: {path: banks}}", "transport={folder: {path: ., out: out.jsonl}}")  # without services
    looked = installed.run("-m", "quarterturn", "doctor", "--json", *config, "--set", alone[0], "--set", alone[1])
    assert looked.stderr == ""
    checks = {check["name"]: check["status"] for check in json.loads(looked.stdout)["checks"]}
    assert (checks["settings"], checks["Python"], checks["engine"]) == ("ok", "ok", "failure")


def test_the_builder_is_where_an_engine_is_built(installed: Installed) -> None:
    inside = installed.folder.glob("lib/python*/site-packages/quarterturn/*")
    rooms = {path.name for path in inside if path.is_dir()} - {"__pycache__"}
    assert rooms == {"worker", "configs"} | ({"engine_build"} if installed.image != "cpu" else set())


@pytest.mark.parametrize(
    ("image", "python", "platform"),
    [
        ("cpu", "3.12", "aarch64-manylinux_2_36"),  # Debian 12
        ("jetson", "3.10", "aarch64-manylinux_2_35"),  # Ubuntu 22.04, JetPack 6
        ("jetson", "3.12", "aarch64-manylinux_2_36"),
    ],
)
def test_a_board_finds_a_wheel_of_everything(image: str, python: str, platform: str, tmp_path: Path) -> None:
    """Wheels for another machine cannot be installed here, but what would be is known."""
    stage = 0 if python == "3.10" else 1
    extra, packages = ".[openvino]", []
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    if image == "jetson":
        extra = ".[tensorrt]"
        (named,) = re.findall(r'NVIDIA_PACKAGES="(.*)"', values(read(image).stages[stage], "ENV")[0])
        packages = [package for package in named.split() if not package.startswith("tensorrt")]
        constraints = [line for line in constraints if not line.startswith("cuda-bindings")]
    (tmp_path / "locked.txt").write_text("\n".join(constraints))
    uv = shutil.which("uv", path=Path(sys.executable).parent) or shutil.which("uv")
    assert uv is not None, "uv is missing: make install"
    command = [uv, "pip", "install", "--dry-run", "--target", str(tmp_path / "target"), "--python", sys.executable]
    command += ["--python-version", python, "--python-platform", platform, "--only-binary", ":all:"]
    command += ["--constraint", str(tmp_path / "locked.txt"), f"{ROOT}/{extra}".replace("/.[", "["), *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert " + kafka-python==" in done.stderr
    assert " + torch==" not in done.stderr
