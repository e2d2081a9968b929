"""The package as a user gets it: an sdist, a wheel made from it, and an editable install; nothing is fetched."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("worker", "trainer", "engine_build", "demo", "configs")
COPIED = ("pyproject.toml", "README.md", "LICENSE", "quarterturn", *ROOMS, "tests", "benchmarks")
OFFLINE = ("--offline", "--no-build-isolation")  # setuptools is that of the tests' own environment


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the package in it; of the tests' own environment it sees the dependencies alone."""

    folder: Path

    def run(self, program: str, *arguments: str, cwd: Path) -> str:
        """What a program of the environment prints, run where nothing of the repository is found by accident."""
        return run(str(self.folder / "bin" / program), *arguments, cwd=cwd)


def run(*command: str, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def uv(*arguments: str, cwd: Path) -> None:
    found = shutil.which("uv", path=Path(sys.executable).parent) or shutil.which("uv")
    assert found is not None, "uv is missing: make install"
    run(found, *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that what a build leaves behind is not found by the next one."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        if (ROOT / name).is_dir():
            skipped = shutil.ignore_patterns("__pycache__", "results")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=skipped)
        else:
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    uv("build", *OFFLINE, "--python", sys.executable, "--out-dir", str(out), str(checkout), cwd=out)
    assert len(list(out.glob("*.tar.gz"))) == 1
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(
    request: pytest.FixtureRequest, wheel: Path, checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    folder = tmp_path_factory.mktemp(request.param)
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Paths alone: what is installed editable in there stays unknown.
    (packages / "dependencies.pth").write_text("".join(f"{place}\n" for place in site.getsitepackages()))
    package = [str(wheel)] if request.param == "wheel" else ["--editable", str(checkout)]
    uv("pip", "install", *OFFLINE, "--no-deps", "--python", str(folder / "bin/python"), *package, cwd=folder)
    return Installed(folder)


def test_the_wheel_holds_the_house_and_nothing_else(wheel: Path) -> None:
    kinds = {".py", ".yaml", ".j2", ".css", ".js", ".json", ".html", ".svg"}
    ours = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.suffix in kinds]
    expected = {f"quarterturn/{path.relative_to(ROOT)}" for path in ours}
    expected |= {f"quarterturn/{name}" for name in ("__init__.py", "__main__.py", "py.typed")}
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == expected
    assert {"quarterturn/configs/worker.yaml", "quarterturn/worker/evaluation/report.html.j2"} <= names
    assert {"quarterturn/worker/pages/style.css", "quarterturn/worker/explain/explanation.html.j2"} <= names
    assert {"quarterturn/worker/console/static/app.js", "quarterturn/worker/console/static/words.json"} <= names


def test_it_is_imported_by_one_name(installed: Installed, tmp_path: Path) -> None:
    names = ("quarterturn", *ROOMS, "benchmarks")
    script = f"from importlib.util import find_spec; print(*(name for name in {names} if find_spec(name)))"
    assert installed.run("python", "-c", script, cwd=tmp_path).split() == ["quarterturn"]
    where = installed.run("python", "-c", "import quarterturn; print(quarterturn.__file__)", cwd=tmp_path)
    assert not Path(where).is_relative_to(ROOT)


def test_its_commands_start(installed: Installed, tmp_path: Path) -> None:
    assert installed.run("quarterturn", "--help", cwd=tmp_path).startswith("usage: quarterturn")
    version = installed.run("python", "-m", "quarterturn", "--version", cwd=tmp_path)
    assert version == installed.run("quarterturn", "--version", cwd=tmp_path)
    assert f'\nversion = "{version.strip()}"\n' in (ROOT / "pyproject.toml").read_text()


def test_it_brings_its_settings_along(installed: Installed, tmp_path: Path) -> None:
    installed.run("quarterturn", "init", cwd=tmp_path)
    for path in (ROOT / "configs").glob("*.yaml"):
        assert (tmp_path / "configs" / path.name).read_bytes() == path.read_bytes()
