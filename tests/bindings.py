"""The real Python bindings of TensorRT and of CUDA, of the versions in use, on a machine that has neither.

They are fetched from the package index once. Those of TensorRT are linked against libraries that are not there; empty
functions of their names let Python load them, so that what they offer can be looked up. Nothing can be run with them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from tests import services

ROOT = Path(__file__).parents[1]
# 10.3 is JetPack 6, with Python 3.10; of the newest Pythons the oldest bindings that exist stand for it.
OLDEST = "10.3.0" if sys.version_info < (3, 13) else "10.9.0.34"
TENSORRT = {
    OLDEST: f"tensorrt-cu12-bindings=={OLDEST}",
    "10.13.3.9.post1": "tensorrt-cu13-bindings==10.13.3.9.post1",
    "10.16.1.11": "tensorrt-cu13-bindings==10.16.1.11",
    "11.4.0.106": "tensorrt-cu13-bindings==11.4.0.106",
}
CUDA = {"12.9.10": "cuda-bindings==12.9.10", "13.5.0": "cuda-bindings==13.5.0"}
if sys.version_info < (3, 11):
    CUDA = {"12.9.10": "cuda-bindings==12.9.10", "13.4.4": "cuda-bindings==13.4.4"}

_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
_FUNCTIONS = (
    *("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL"),
    *("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"),
    *("getBuilderPluginRegistry", "getPluginRegistry", "initLibNvInferPlugins"),
)


def install() -> None:
    """Fetch all bindings, and make the libraries that they ask for.

    Raises:
        services.ServiceError: there is no C compiler and none can be installed, or the package index does not answer.
    """
    _libraries()
    for requirement in (*TENSORRT.values(), *CUDA.values()):
        _unpacked(requirement)


def tensorrt_uses(version: str, *files: Path) -> dict[str, Any]:
    """What `tests.uses` finds in `files`, of TensorRT's bindings of this version."""
    return _uses(_unpacked(TENSORRT[version]), "tensorrt_bindings", "trt", files)


def cuda_uses(version: str, *files: Path) -> dict[str, Any]:
    """What `tests.uses` finds in `files`, of CUDA's bindings of this version."""
    return _uses(_unpacked(CUDA[version]), "cuda.bindings.runtime", "cudart", files)


def _uses(folder: Path, package: str, alias: str, files: tuple[Path, ...]) -> dict[str, Any]:
    """In a process of its own: one process can load one version."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "LD_LIBRARY_PATH": str(_libraries())}
    command = [sys.executable, str(ROOT / "tests" / "uses.py"), package, alias, *map(str, files)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _libraries() -> Path:
    """The folder with the empty libraries, compiled once."""
    folder = services.DOWNLOADS / "tensorrt-stubs"
    if not folder.is_dir():
        services.need(shutil.which("cc") is not None, "A C compiler", ("gcc",))
        services.DOWNLOADS.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=services.DOWNLOADS) as temporary:
            source, made = Path(temporary, "stubs.c"), Path(temporary, "made")
            source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in _FUNCTIONS))
            made.mkdir()
            for library in (f"lib{name}.so.{major}" for name in _LIBRARIES for major in (10, 11)):
                services.run("cc", "-shared", "-fPIC", "-nostdlib", "-o", str(made / library), str(source))
            _publish(made, folder)
    return folder


def _unpacked(requirement: str) -> Path:
    """The folder with the bindings' files, fetched once for each Python."""
    folder = services.DOWNLOADS / f"{requirement}-{sys.implementation.cache_tag}"
    if not folder.is_dir():
        services.DOWNLOADS.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=services.DOWNLOADS) as temporary:
            pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:")
            services.run(*pip, "--dest", temporary, requirement)
            (wheel,) = Path(temporary).glob("*.whl")
            made = Path(temporary, "made")
            zipfile.ZipFile(wheel).extractall(made)
            _publish(made, folder)
    return folder


def _publish(made: Path, folder: Path) -> None:
    """Move it into place, whole; where another test run was faster, its folder stays."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
