"""The laws of the house, read from the imports themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("worker", "trainer", "engine_build", "demo")  # the folders at the root, linked into quarterturn/
FILES = sorted(
    [path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    + [path.relative_to(ROOT) for path in (ROOT / "quarterturn").glob("*.py") if not path.is_symlink()]
)

# From the ground up; a module may import only modules of lower floors, or of its own room.
FLOORS: list[tuple[str, ...]] = [
    ("worker.contract",),
    ("worker.pictures", "worker.pages"),
    ("worker.settings", "worker.messages", "worker.engine", "trainer"),
    ("worker.bankstore", "worker.transport", "worker.inspection", "worker.alerting", "worker.parts", "engine_build"),
    ("worker.fitting", "worker.runtime"),
    ("worker.evaluation", "worker.explain", "worker.doctor", "worker.learning"),
    ("demo", "worker.console"),
    ("worker.commands",),
]
PORCH = ("quarterturn", "quarterturn.worker")
"""What only names the rooms behind it, and holds nothing of its own."""
CONTRACT_MAY_IMPORT = {"numpy", "cv2", "yaml", "pydantic", "pydantic_core", "safetensors", "quarterturn"}
ONE_FILE_EACH = {"redis", "openvino", "onnxruntime", "tensorrt", "cuda", "prometheus_client", "jinja2", "simplejpeg"}
ONE_FILE_EACH |= {"starlette", "uvicorn"}  # of the console


def module_of(path: Path) -> str:
    """By the one name that it is imported by."""
    parts = path.with_suffix("").parts
    parts = parts if parts[0] == "quarterturn" else ("quarterturn", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


@cache  # many laws read the same files
def imports(path: Path, *, lazy: bool) -> tuple[str, ...]:
    """The modules that a file imports; those inside functions only if `lazy`, those for types alone never."""
    return tuple(_imports(path, lazy))


def _imports(path: Path, lazy: bool) -> Iterator[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    inner = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    for_types = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if node in for_types or (node in inner and not lazy):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole path"
            for alias in node.names:  # `from quarterturn.worker import engine` imports quarterturn.worker.engine
                inside = f"{node.module}.{alias.name}"
                yield inside if inside in MODULES else str(node.module)


def floor_of(module: str) -> int | None:
    for floor, names in enumerate(FLOORS):
        if any(f"{module}.".startswith(f"quarterturn.{name}.") for name in names):
            return floor
    return None


def room_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[1:3] if parts[1] == "worker" else parts[1:2])


@pytest.mark.parametrize("path", FILES, ids=str)
def test_the_rooms_do_not_know_tests_and_benchmarks(path: Path) -> None:
    assert not {name for name in imports(path, lazy=True) if name.split(".")[0] in {"benchmarks", "tests"}}


@pytest.mark.parametrize("folder", [*ROOMS, "quarterturn", "tests", "benchmarks", "examples", "docs"])
def test_everything_of_ours_is_imported_as_quarterturn(folder: str) -> None:
    """From the checkout's root the bare names of the rooms could be imported, too."""
    for path in (ROOT / folder).rglob("*.py"):
        bare = {name.split(".")[0] for name in imports(path.relative_to(ROOT), lazy=True)} & {*ROOMS, "configs"}
        assert not bare, f"{path} imports {bare}"


@pytest.mark.parametrize("path", [path for path in FILES if module_of(path) not in PORCH], ids=str)
def test_no_arrow_runs_upwards(path: Path) -> None:
    """Nor one that is drawn late, inside a function."""
    module = module_of(path)
    mine = floor_of(module)
    assert mine is not None, f"{module} has no floor; give it one here"
    for imported in imports(path, lazy=True):
        if not imported.startswith("quarterturn.") or room_of(imported) == room_of(module):
            continue
        theirs = floor_of(imported)
        assert theirs is not None
        assert theirs < mine, f"{module} imports {imported}, which does not lie below it"


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
    heavy = {"torch", "timm", "tensorboard", "onnx", *(f"quarterturn.{room}" for room in ROOMS if room != "worker")}
    found = list(imports(path, lazy=False))
    assert not {name for name in found if any(f"{name}.".startswith(f"{one}.") for one in heavy)}


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[:2] == ("worker", "contract")], ids=str)
def test_contract_imports_little(path: Path) -> None:
    for name in imports(path, lazy=True):
        package = name.split(".")[0]
        assert package in CONTRACT_MAY_IMPORT | sys.stdlib_module_names, f"{path} imports {name}"
        assert package != "quarterturn" or name.startswith("quarterturn.worker.contract"), f"{path} imports {name}"


@pytest.mark.parametrize("folder", ["engine", "bankstore", "transport"])
def test_adapters_do_not_know_each_other(folder: str) -> None:
    others = {f"worker.{name}" for name in ("engine", "bankstore", "transport")} - {f"worker.{folder}"}
    for path in FILES:
        if path.parts[:2] == ("worker", folder):
            found = {room_of(name) for name in imports(path, lazy=True) if name.startswith("quarterturn.")}
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
        if path.parts[0] == "engine_build"
        and any(name.startswith("quarterturn.trainer") for name in imports(path, lazy=True))
    }
    assert where == {"engine_build/export.py"}


def test_worker_and_builder_import_without_torch() -> None:
    """The builder, too: a device builds its own engine from graphs that were exported elsewhere."""
    script = """
import importlib, pkgutil, sys
for name in ("torch", "onnx", "timm", "quarterturn.trainer", "tensorboard"):
    sys.modules[name] = None  # importing it raises ImportError
from quarterturn import engine_build, worker
from quarterturn.worker.contract.errors import ConfigError
names = [m.name for package in (worker, engine_build)
         for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    try:
        importlib.import_module(name)
    except ConfigError as error:  # no index has NVIDIA's package
        targets = ("quarterturn.worker.engine.tensorrt", "quarterturn.engine_build.tensorrt")
        assert name in targets and "'tensorrt'" in str(error), error
    except ModuleNotFoundError:
        assert name == "quarterturn.engine_build.export", name
print(len(names))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60
