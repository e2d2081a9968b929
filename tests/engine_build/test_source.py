"""A device builds from what was exported elsewhere: without torch, and without the model."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy

from quarterturn.engine_build.build import build
from quarterturn.engine_build.config import BuildSettings
from quarterturn.engine_build.source import is_engine
from quarterturn.worker.contract.errors import ConfigError, DataError, MismatchError
from quarterturn.worker.contract.manifest import EngineManifest, read_manifest
from tests.worker.engine.graphs import SHAPES, write_engine

ROOT = Path(__file__).parents[2]


def settings(model: Path, out: Path, **changes: Any) -> BuildSettings:
    return BuildSettings.model_validate({"model": model, "out": out, "golden_frames": 2, **changes})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_engine(tmp_path_factory.mktemp("plant") / "exported", "float16", ["onnxruntime"])


def test_an_engine_is_built_of_an_engine_without_torch(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "build.yaml").write_text(
        f"model: {exported}\nout: {tmp_path / 'engine'}\nprecision: {{onnxruntime: float16}}\n"
    )
    script = """
import sys
for name in ("torch", "onnx", "quarterturn.trainer", "onnxscript", "onnx_ir"):
    sys.modules[name] = None
from quarterturn.worker.commands.main import main
sys.exit(main(["build", "--target", "onnxruntime", "--config", sys.argv[1]]))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "build.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    before, after = (read_manifest(path, EngineManifest, "") for path in (exported, tmp_path / "engine"))
    assert after.engine_hash("onnxruntime") == before.engine_hash("onnxruntime")
    for name in ("spec", "model", "products", "holdout", "group", "pictures", "files"):
        assert getattr(after, name) == getattr(before, name)
    golden = [safetensors.numpy.load_file(path / "golden.safetensors") for path in (exported, tmp_path / "engine")]
    assert golden[0].keys() == golden[1].keys() == {"frames", *SHAPES}
    for name in golden[0]:
        assert (golden[0][name] == golden[1][name]).all(), "as they were exported, not the runtime's own"


def test_an_engine_can_be_built_in_its_own_place(exported: Path, tmp_path: Path) -> None:
    here = shutil.copytree(exported, tmp_path / "engine")
    changes = {"targets": ["onnxruntime"], "precision": {"onnxruntime": "float16"}}
    assert build(settings(here, here, **changes), progress=False) == here
    assert read_manifest(here, EngineManifest, "").files == read_manifest(exported, EngineManifest, "").files


def test_a_model_without_torch_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        module
        for module in sys.modules
        if module.startswith(("quarterturn.trainer", "quarterturn.engine_build.export"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError) as fault:
        build(settings(tmp_path / "model", tmp_path / "engine"), progress=False)
    assert str(fault.value) == (
        f"{tmp_path}/model: to export a model the package 'torch' is needed; run: pip install 'quarterturn[train]', "
        "or set 'model' to an engine folder that was exported elsewhere"
    )


@pytest.mark.parametrize(
    ("target", "kind", "advice"),
    [
        ("openvino", "one-view", "openvino"),
        ("onnxruntime", "float32", "onnxruntime --set precision.onnxruntime=float32"),
    ],
)
def test_a_graph_that_was_not_exported_is_one_sentence(
    exported: Path, tmp_path: Path, target: str, kind: str, advice: str
) -> None:
    changes = {"targets": [target], "precision": {target: "float32"}}
    with pytest.raises(DataError) as fault:
        build(settings(exported, tmp_path / "engine", **changes), progress=False)
    assert str(fault.value) == (
        f"{exported}: holds no {kind} graph; export one where torch is installed with "
        f"'quarterturn build --target {advice}'"
    )


@pytest.mark.parametrize("changes", [{"views": 8}, {"pictures": "pictures"}])
def test_what_was_fixed_at_the_export_cannot_be_set(exported: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as fault:
        build(settings(exported, tmp_path / "engine", targets=["onnxruntime"], **changes), progress=False)
    assert str(fault.value) == (
        f"{exported}: is an engine, so its 4 views and its golden frames are fixed; "
        "set 'views' and 'pictures' to null, or 'model' to the folder of a trained model"
    )


@pytest.mark.parametrize("name", ["golden.safetensors", "model.float16.onnx"])
def test_a_changed_file_is_refused(exported: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(exported, tmp_path / "exported")
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    changes = {"targets": ["onnxruntime"], "precision": {"onnxruntime": "float16"}}
    with pytest.raises(MismatchError, match=rf"{name}: has hash"):
        build(settings(copy, tmp_path / "engine", **changes), progress=False)


@pytest.mark.parametrize("text", [None, "[]", "{", '{"kind": "quarterturn-model"}'])
def test_other_folders_are_no_engine(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    assert not is_engine(tmp_path)
