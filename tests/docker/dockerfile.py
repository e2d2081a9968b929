"""Reads a Dockerfile as far as the tests need it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGES = ("cpu", "gpu", "jetson")

Instruction = tuple[str, str]


@dataclass(frozen=True)
class Dockerfile:
    """The instructions (name, rest) of each stage; comments are dropped, continued lines joined."""

    path: Path
    stages: list[list[Instruction]]

    @property
    def build(self) -> list[Instruction]:
        return self.stages[-2]

    @property
    def image(self) -> list[Instruction]:
        return self.stages[-1]

    @property
    def copied(self) -> list[str]:
        """What the build stage copies from the repository, in order."""
        return [source for copy in values(self.build, "COPY") for source in copy.split()[:-1]]

    @property
    def packages(self) -> list[str]:
        return [source.rstrip("/") for source in self.copied if source.endswith("/")]


def read(image: str) -> Dockerfile:
    path = ROOT / "docker" / f"Dockerfile.{image}"
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    instructions = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    stages: list[list[Instruction]] = []
    for instruction in filter(None, instructions):
        name, rest = instruction.split(maxsplit=1)
        if name == "FROM":
            stages.append([])
        if stages:  # before the first stage there are only build arguments
            stages[-1].append((name, rest))
    return Dockerfile(path, stages)


def values(stage: list[Instruction], name: str) -> list[str]:
    return [rest for each, rest in stage if each == name]


def installs(stage: list[Instruction]) -> list[list[str]]:
    """The arguments of every pip of a stage that installs into the worker's environment."""
    commands = [shlex.split(command) for run in values(stage, "RUN") for command in run.split("&&")]
    return [command[3:] for command in commands if command[1:3] == ["--python", "/opt/quarterturn/bin/python"]]
