"""The public face: what `import quarterturn` does, and what it must not do."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import quarterturn
from tests.api.plant import ROOT, run_python

FOR_TYPES = [
    node
    for branch in ast.parse((ROOT / "quarterturn/__init__.py").read_text(encoding="utf-8")).body
    if isinstance(branch, ast.If)
    for node in branch.body
    if isinstance(node, ast.ImportFrom)
]
IMPORTS = [(str(node.module), alias.name) for node in FOR_TYPES for alias in node.names]

# Run before and after: what a process has one of, and a library leaves alone.
STATE = """
import json, logging, os, signal, sys, threading
import cv2
def state():
    return {
        "environment": dict(os.environ),
        "logging": [logging.root.level, len(logging.root.handlers), logging.root.manager.disable],
        "signals": [repr(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "threads": threading.active_count(),
        "cv2 threads": cv2.getNumThreads(),
        "cv2 log level": cv2.utils.logging.getLogLevel(),
    }
before = state()
from quarterturn import *
print(json.dumps([before, state()]))
"""


def of_python(script: str, tmp_path: Path) -> Any:
    return json.loads(run_python("-c", script, cwd=tmp_path))


@pytest.mark.parametrize(("module", "name"), IMPORTS, ids=[name for _, name in IMPORTS])
def test_a_name_is_at_run_time_what_type_checkers_see(module: str, name: str) -> None:
    home = importlib.import_module(module)
    expected = getattr(home, name) if hasattr(home, name) else importlib.import_module(f"{module}.{name}")
    assert getattr(quarterturn, name) is expected


def test_all_names_every_public_name() -> None:
    assert sorted([*(name for _, name in IMPORTS), "__version__"]) == quarterturn.__all__
    assert set(quarterturn.__all__) <= set(dir(quarterturn))


@pytest.mark.parametrize("name", [name for name in quarterturn.__all__ if name not in {"Outcome", "__version__"}])
def test_every_name_says_what_it_is(name: str) -> None:
    said = inspect.getdoc(getattr(quarterturn, name))
    assert said is not None
    assert len(said.splitlines()[0]) > 20


def test_the_version_is_that_of_the_package() -> None:
    assert quarterturn.__version__ == importlib.metadata.version("quarterturn")


def test_a_misspelt_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'quarterturn' has no attribute 'Inspecter'"):
        _ = quarterturn.Inspecter  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        exec("from quarterturn import Inspecter")


def test_the_import_loads_nothing(tmp_path: Path) -> None:
    script = "import quarterturn, json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.split(".")[0] for name in of_python(script, tmp_path)}
    assert not loaded & {"numpy", "cv2", "pydantic", "redis", "kafka", "openvino", "onnxruntime"}
    assert [name for name in of_python(script, tmp_path) if name.startswith("quarterturn")] == ["quarterturn"]


def test_the_names_change_nothing_in_the_process(tmp_path: Path) -> None:
    before, after = of_python(STATE, tmp_path)
    assert before == after


def test_the_command_line_can_set_its_threads_before_numpy_counts_them(tmp_path: Path) -> None:
    told = "[os.environ['OPENBLAS_NUM_THREADS'], 'numpy' in sys.modules]"
    script = f"import quarterturn.worker.commands, json, os, sys; print(json.dumps({told}))"
    assert of_python(script, tmp_path) == ["1", False]


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "quarterturn/py.typed").is_file()
