"""The worker's image: what it is built from, what is in it, and as whom it runs."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from pathlib import Path

import pytest

from worker.config import HttpSettings

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile.cpu"


def stages() -> list[list[tuple[str, str]]]:
    """The instructions (name, rest) of each stage, comments dropped and continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    instructions = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    found: list[list[tuple[str, str]]] = []
    for instruction in filter(None, instructions):
        name, rest = instruction.split(maxsplit=1)
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


BUILD, IMAGE = stages()


def values(stage: list[tuple[str, str]], name: str) -> list[str]:
    return [rest for each, rest in stage if each == name]


@pytest.mark.parametrize("stage", [BUILD, IMAGE], ids=["build", "image"])
def test_the_base_is_pinned_to_a_patch_release(stage: list[tuple[str, str]]) -> None:
    assert re.match(r"python:3\.\d+\.\d+-slim-[a-z]+( |$)", stage[0][1])


def test_both_stages_have_the_same_base_so_that_the_venv_can_be_copied() -> None:
    assert BUILD[0][1].split()[0] == IMAGE[0][1].split()[0]


def test_the_image_runs_as_a_numbered_user_who_is_not_root() -> None:
    """A number, so that an orchestrator can verify it without reading /etc/passwd."""
    last_user = values(IMAGE, "USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last_user)
    assert IMAGE.index(("USER", last_user)) > max(n for n, (name, _) in enumerate(IMAGE) if name in {"RUN", "COPY"})


def test_no_stage_installs_system_packages() -> None:
    """Every dependency is a wheel: no compiler is needed, and none is there for an intruder."""
    commands = " ".join(values(BUILD, "RUN") + values(IMAGE, "RUN"))
    assert "apt" not in shlex.split(commands)
    assert not re.search(r"\b(apt-get|gcc|g\+\+|build-essential|curl|wget)\b", commands)
    assert "--only-binary :all:" in commands


def test_dependencies_are_constrained_and_torch_is_not_asked_for() -> None:
    (install,) = (run for run in values(BUILD, "RUN") if "--constraint" in run)
    assert "--constraint constraints.txt" in install
    assert shlex.split(install)[-1] == ".[openvino]"


def test_every_file_that_is_copied_exists_and_reaches_the_build() -> None:
    """The ignore file drops everything but what is named, so a forgotten name would break the build."""
    ignore = DOCKERFILE.with_name(f"{DOCKERFILE.name}.dockerignore").read_text().splitlines()
    kept = [line[1:].rstrip("/") for line in ignore if line.startswith("!")]
    assert "*" in ignore
    for copy in values(BUILD, "COPY"):
        *sources, _ = copy.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source.rstrip("/"), pattern) for pattern in kept), source


def test_only_the_worker_is_in_the_image() -> None:
    packages = {source for copy in values(BUILD, "COPY") for source in copy.split()[:-1] if source.endswith("/")}
    assert packages == {"worker/"}
    assert values(IMAGE, "COPY") == ["--from=build /opt/quarterturn /opt/quarterturn"]


def test_the_health_check_asks_the_port_that_the_worker_serves() -> None:
    port = HttpSettings().port
    (check,) = values(IMAGE, "HEALTHCHECK")
    assert f"http://127.0.0.1:{port}/healthz" in check
    assert values(IMAGE, "EXPOSE") == [str(port)]


def test_the_default_command_is_one_that_quarterturn_knows() -> None:
    assert json.loads(values(IMAGE, "ENTRYPOINT")[-1]) == ["quarterturn"]
    assert json.loads(values(IMAGE, "CMD")[-1])[:3] == ["run", "--config", "configs/worker.yaml"]
