"""The laws of the house, read from the imports themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("worker", "trainer", "engine_build", "demo")
FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# From the ground up; a module may import only modules of lower floors, or of its own folder where the floor is shared.
FLOORS: list[tuple[str, ...]] = [
    ("worker.contract",),
    (
        "worker.config",
        "worker.events",
        "worker.frames",
        "worker.figures",
        "worker.health",
        "worker.heatmap",
        "worker.localisation",
        "worker.memory",
        "worker.options",
        "worker.security",
        "worker.twins",
    ),
    ("worker.engine", "worker.bankstore", "worker.transport", "worker.judge", "worker.masks", "worker.cues", "trainer"),
    ("worker.inspector", "engine_build"),
    (
        "worker.service",
        "worker.fit",
        "worker.findings",
        "worker.probe",
        "worker.evaluate",
        "worker.summary",
        "worker.report",
    ),
    ("worker.assemble",),
    ("worker.camera", "worker.bank_cli", "worker.doctor"),
    ("demo",),
    ("worker.cli",),
    ("worker.__main__",),
]
CONTRACT_MAY_IMPORT = {"numpy", "cv2", "yaml", "pydantic", "pydantic_core", "safetensors", "worker"}
ONE_FILE_EACH = {"redis", "openvino", "onnxruntime", "tensorrt", "cuda", "prometheus_client", "jinja2"}


def module_of(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, lazy: bool) -> Iterator[str]:
    """The modules that a file imports; those inside functions only if `lazy`."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    inner = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    for node in ast.walk(tree):
        if node in inner and not lazy:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole path"
            # `from worker import camera` imports worker.camera
            yield from (
                f"{node.module}.{alias.name}" if node.module in PACKAGES else str(node.module) for alias in node.names
            )


def floor_of(module: str) -> int | None:
    for floor, names in enumerate(FLOORS):
        if any(module == name or module.startswith(name + ".") for name in names):
            return floor
    return None


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_arrow_runs_upwards(path: Path) -> None:
    module = module_of(path)
    if module in PACKAGES:
        return
    mine = floor_of(module)
    assert mine is not None, f"{module} has no floor; give it one here"
    for imported in imports(path, lazy=False):
        theirs = floor_of(imported)
        if theirs is None or imported.split(".")[:2] == module.split(".")[:2]:
            continue
        assert theirs <= mine, f"{module} imports {imported}, which lies above it"


def test_no_circle() -> None:
    graph = {module_of(path): set(imports(path, lazy=False)) for path in FILES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for imported in graph.get(module, ()):
                visit(imported, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] == "worker"], ids=str)
def test_worker_needs_no_training_packages(path: Path) -> None:
    heavy = {"torch", "trainer", "engine_build", "demo", "tensorboard", "onnx"}
    assert not {name.split(".")[0] for name in imports(path, lazy=False)} & heavy


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[:2] == ("worker", "contract")], ids=str)
def test_contract_imports_little(path: Path) -> None:
    for name in imports(path, lazy=True):
        package = name.split(".")[0]
        assert package in CONTRACT_MAY_IMPORT | sys.stdlib_module_names, f"{path} imports {name}"
        assert package != "worker" or name.startswith("worker.contract"), f"{path} imports {name}"


@pytest.mark.parametrize("folder", ["engine", "bankstore", "transport"])
def test_adapters_do_not_know_each_other(folder: str) -> None:
    others = {f"worker.{name}" for name in ("engine", "bankstore", "transport")} - {f"worker.{folder}"}
    for path in FILES:
        if path.parts[:2] == ("worker", folder):
            found = {".".join(name.split(".")[:2]) for name in imports(path, lazy=True)}
            assert not found & others, path


@pytest.mark.parametrize("vendor", sorted(ONE_FILE_EACH))
def test_a_vendor_is_imported_in_one_file(vendor: str) -> None:
    where = [str(path) for path in FILES if any(name.split(".")[0] == vendor for name in imports(path, lazy=True))]
    assert len(where) <= 1, where


def test_kafka_is_imported_in_one_folder() -> None:
    where = {str(path.parent) for path in FILES if "kafka" in {n.split(".")[0] for n in imports(path, lazy=True)}}
    assert where == {"worker/transport/kafka"}


def test_only_export_imports_the_trainer() -> None:
    where = {
        str(path)
        for path in FILES
        if path.parts[0] == "engine_build" and any(name.split(".")[0] == "trainer" for name in imports(path, lazy=True))
    }
    assert where == {"engine_build/export.py"}


def test_worker_and_builder_import_without_torch() -> None:
    """The builder, too: a device builds its own engine from graphs that were exported elsewhere."""
    script = """
import importlib, pkgutil, sys
for name in ("torch", "onnx", "trainer", "tensorboard"):
    sys.modules[name] = None  # importing it raises ImportError
import engine_build, worker
from worker.contract.errors import ConfigError
names = [m.name for package in (worker, engine_build)
         for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    try:
        importlib.import_module(name)
    except ConfigError as error:  # no index has NVIDIA's package
        assert name in ("worker.engine.tensorrt", "engine_build.tensorrt") and "'tensorrt'" in str(error), error
    except ModuleNotFoundError:
        assert name == "engine_build.export", name
print(len(names))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
