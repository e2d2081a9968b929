"""The worker's images: what they are built from, what is in them, and as whom they run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quarterturn.worker.settings.worker import HttpSettings
from tests.docker.dockerfile import IMAGES, ROOT, Dockerfile, installs, read, values

EXTRAS = {"cpu": ".[openvino]", "gpu": ".[tensorrt]", "jetson": ".[tensorrt]"}
WORKER = {"quarterturn", "configs", "worker"}
PACKAGES = {"cpu": WORKER, "gpu": {*WORKER, "engine_build"}, "jetson": {*WORKER, "engine_build"}}


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dockerfile(image: str) -> Dockerfile:
    return read(image)


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    beside = Path(sys.executable).parent
    linter = shutil.which("hadolint", path=beside) or shutil.which("hadolint")
    assert linter is not None, "hadolint is missing: make install"
    return subprocess.run([linter, "--no-color", str(path)], capture_output=True, text=True, check=False)


def test_the_linter_finds_nothing(dockerfile: Dockerfile) -> None:
    done = lint(dockerfile.path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_linter_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN cd /tmp && apt-get install curl\n")
    done = lint(bad)
    assert done.returncode != 0
    assert "DL3007" in done.stdout  # a tag that moves
    assert "DL3008" in done.stdout  # a package without a version


def test_every_base_is_pinned(dockerfile: Dockerfile) -> None:
    """To a patch release, or it is a stage of the same file."""
    pinned = re.compile(
        r"(python:3\.\d+\.\d+-slim-[a-z]+|nvcr\.io/nvidia/l4t-tensorrt:r\d+\.\d+\.\d+-runtime)( AS \w+)?"
    )
    for stage in dockerfile.stages:
        name, base = stage[0]
        assert name == "FROM"
        assert pinned.fullmatch(base) or re.fullmatch(r"jetpack\$\{JETPACK\}( AS build)?", base), base


def test_both_stages_have_the_same_base_so_that_the_venv_can_be_copied(dockerfile: Dockerfile) -> None:
    assert dockerfile.build[0][1].split()[0] == dockerfile.image[0][1].split()[0]


def test_the_board_chooses_its_base_by_its_jetpack() -> None:
    dockerfile = read("jetson")
    assert "\nARG JETPACK=6\n" in dockerfile.path.read_text()
    assert [stage[0][1].split(" AS ")[1] for stage in dockerfile.stages[:-2]] == ["jetpack6", "jetpack7"]


def test_the_image_runs_as_a_numbered_user_who_is_not_root(dockerfile: Dockerfile) -> None:
    """A number, so that an orchestrator can verify it without reading /etc/passwd."""
    image = dockerfile.image
    last_user = values(image, "USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last_user)
    assert image.index(("USER", last_user)) > max(n for n, (name, _) in enumerate(image) if name in {"RUN", "COPY"})


def test_no_stage_installs_a_compiler(dockerfile: Dockerfile) -> None:
    """Every dependency is a wheel: no compiler is needed, and none is there for an intruder."""
    commands = [run for stage in dockerfile.stages for run in values(stage, "RUN")]
    assert not re.search(r"\b(gcc|g\+\+|build-essential|curl|wget|[\w-]+-dev|[\w-]+-devel)\b", " ".join(commands))
    system = [run for run in commands if "apt-get" in run]
    assert [re.findall(r"recommends (.*?) &&", run) for run in system] == (
        [["python3-venv"]] if dockerfile == read("jetson") else []
    )


def test_dependencies_are_wheels_and_locked(image: str, dockerfile: Dockerfile) -> None:
    """Only NVIDIA's own packages are no wheels: they are stubs that fetch one."""
    *dependencies, code = installs(dockerfile.build)
    assert code == ["install", "--no-deps", "--force-reinstall", "."]
    (ours,) = (arguments for arguments in dependencies if EXTRAS[image] in arguments)
    assert ours[:3] == ["install", "--only-binary", ":all:"]
    for arguments in dependencies:
        constraint = arguments[arguments.index("--constraint") + 1]
        assert constraint == ("locked.txt" if image == "jetson" else "constraints.txt")
        named = [each for each in arguments[arguments.index("--constraint") + 2 :] if each != EXTRAS[image]]
        assert named == [] or named == [{"gpu": "tensorrt-cu13==${TENSORRT}", "jetson": "${NVIDIA_PACKAGES}"}[image]]


def test_what_is_not_in_the_constraints_is_pinned_in_the_dockerfile() -> None:
    (tensorrt,) = values(read("gpu").build, "ARG")
    assert re.fullmatch(r"TENSORRT=\d+(\.\d+){3}", tensorrt)
    for stage in read("jetson").stages[:-2]:
        (packages,) = re.findall(r'NVIDIA_PACKAGES="(.*)"', values(stage, "ENV")[0])
        assert all(re.fullmatch(r"[a-z0-9-]+==\d+(\.\d+)+", package) for package in packages.split())


def test_every_file_that_is_copied_exists_and_reaches_the_build_and_nothing_else() -> None:
    """The ignore file drops everything but what is named, so a forgotten name would break the build."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    copied = {source.rstrip("/") for image in PACKAGES for source in read(image).copied}
    assert all((ROOT / source).exists() for source in copied)
    assert {line[1:].rstrip("/") for line in ignored if line.startswith("!")} == copied


def test_only_the_worker_and_where_it_builds_an_engine_the_builder_is_in_the_image(
    image: str, dockerfile: Dockerfile
) -> None:
    assert set(dockerfile.packages) == PACKAGES[image]
    assert values(dockerfile.image, "COPY") == ["--from=build /opt/quarterturn /opt/quarterturn"]


def test_the_health_check_asks_the_port_that_the_worker_serves(dockerfile: Dockerfile) -> None:
    port = HttpSettings().port
    (check,) = values(dockerfile.image, "HEALTHCHECK")
    assert f"http://127.0.0.1:{port}/healthz" in check
    assert values(dockerfile.image, "EXPOSE") == [str(port)]


def test_the_default_command_is_one_that_quarterturn_knows(dockerfile: Dockerfile) -> None:
    assert json.loads(values(dockerfile.image, "ENTRYPOINT")[-1]) == ["quarterturn"]
    assert json.loads(values(dockerfile.image, "CMD")[-1])[:3] == ["run", "--config", "configs/worker.yaml"]


@pytest.mark.parametrize("image", ["gpu", "jetson"], indirect=True)
def test_the_gpu_is_asked_for(dockerfile: Dockerfile) -> None:
    """Else NVIDIA's container runtime mounts no driver."""
    environment = dict(each.split("=", 1) for each in shlex.split(" ".join(values(dockerfile.image, "ENV"))))
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert "compute" in environment["NVIDIA_DRIVER_CAPABILITIES"] or environment["NVIDIA_DRIVER_CAPABILITIES"] == "all"
