"""The TensorRT target on a GPU that keeps the rules (tests/nvidia.py)."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quarterturn.engine_build.build import build
from quarterturn.engine_build.config import BuildSettings
from quarterturn.worker.contract.errors import DataError, DeviceError, MismatchError
from quarterturn.worker.contract.manifest import EngineManifest, read_manifest
from tests import nvidia
from tests.engine_build.models import SIDE, save_random_model
from tests.nvidia import Gpu, TensorRt, installed


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float16 graph, and golden frames."""
    return export(tmp_path_factory.mktemp("plant"), "float16")


def export(folder: Path, precision: str) -> Path:
    model = save_random_model(folder / "model", views=2)
    document = {"targets": ["onnxruntime"], "precision": {"onnxruntime": precision}, "golden_frames": 3}
    settings = {"model": model, "out": folder / "exported", **document}
    return build(BuildSettings.model_validate(settings), progress=False)


@pytest.fixture
def trt() -> Iterator[TensorRt]:
    fake = TensorRt(Gpu())
    with installed(fake):
        yield fake


def built(exported: Path, out: Path, progress: bool = False, **changes: Any) -> Path:
    document = {"model": exported, "out": out, "targets": ["tensorrt"], **changes}
    return build(BuildSettings.model_validate(document), progress=progress)


def manifest_of(engine: Path) -> EngineManifest:
    return read_manifest(engine, EngineManifest, "quarterturn build")


def test_the_manifest_says_what_the_plan_is_bound_to(trt: TensorRt, exported: Path, tmp_path: Path) -> None:
    engine = built(exported, tmp_path / "engine", tensorrt={"opt_frames": 2, "max_frames": 6, "workspace_mb": 64})
    manifest = manifest_of(engine)
    part = manifest.targets["tensorrt"]
    seconds, layers = part.details.pop("build_seconds"), part.details.pop("float16_layers")
    assert part.details == {
        "tensorrt": "10.3.0",
        "gpu": "Orin",
        "compute_capability": "8.7",
        "profile": {"min": 1, "opt": 2, "max": 6},
        "workspace_mb": 64,
        "optimisation_level": 3,
    }
    assert 0 <= seconds < 60
    assert layers > 20
    assert part.precision == "float16"
    assert part.files == ("model.float16.plan",)
    assert 0.999 <= part.parity <= 1
    assert (
        manifest.files["model.float16.plan"] == hashlib.sha256((engine / "model.float16.plan").read_bytes()).hexdigest()
    )
    assert {path.name for path in engine.iterdir()} == {"manifest.json", *manifest.files}
    assert set(manifest.files) == {
        *("golden.safetensors", "model.float16.onnx", "model.float16.plan", "timing.10.3.0.cache"),
    }
    assert not trt.gpu.open()


def test_the_builder_is_given_the_settings(trt: TensorRt, exported: Path, tmp_path: Path) -> None:
    settings = {"opt_frames": 3, "max_frames": 5, "workspace_mb": 256, "optimisation_level": 5}
    built(exported, tmp_path / "engine", tensorrt=settings)
    config = trt.config
    assert config is not None
    assert config.profiles[0].shapes == [(frames, SIDE, SIDE, 3) for frames in (1, 3, 5)]
    assert config.limits == {trt.MemoryPoolType.WORKSPACE: 256 * 1024 * 1024}
    assert config.builder_optimization_level == 5
    assert config.profiling_verbosity is trt.ProfilingVerbosity.DETAILED
    assert config.cleared == [trt.BuilderFlag.TF32]


def test_no_torch_is_needed(trt: TensorRt, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        module
        for module in sys.modules
        if module.startswith(("quarterturn.trainer", "quarterturn.engine_build.export"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert manifest_of(built(exported, tmp_path / "engine")).model == manifest_of(exported).model


def test_an_engine_can_be_built_again_in_its_place(exported: Path, tmp_path: Path) -> None:
    """On another device, or after TensorRT was updated: with the command that the worker prints."""
    with installed(TensorRt(Gpu())):
        engine = built(exported, tmp_path / "engine")
    with installed(TensorRt(Gpu("Thor", "11.0"), "10.13.3")):
        built(engine, engine)
    details = manifest_of(engine).targets["tensorrt"].details
    assert (details["gpu"], details["compute_capability"], details["tensorrt"]) == ("Thor", "11.0", "10.13.3")
    assert not (engine / "timing.10.3.0.cache").exists()


def test_a_second_build_uses_the_timings_of_the_first(exported: Path, tmp_path: Path) -> None:
    def timings_before(gpu: Gpu, version: str = "10.3.0") -> dict[str, float]:
        fake = TensorRt(gpu, version)
        with installed(fake):
            built(exported, tmp_path / "engine")
        assert fake.config is not None
        return fake.config.timings.before

    assert timings_before(Gpu()) == {}
    assert timings_before(Gpu())
    assert timings_before(Gpu("Orin NX")) == {}, "of another GPU"
    assert timings_before(Gpu("Orin NX"))
    assert timings_before(Gpu("Orin NX"), "10.13.3") == {}, "of another TensorRT"
    (tmp_path / "engine" / "timing.10.13.3.cache").write_bytes(b"damaged")
    assert timings_before(Gpu("Orin NX"), "10.13.3") == {}


def test_a_layer_that_fell_back_to_float32_is_refused(trt: TensorRt, exported: Path, tmp_path: Path) -> None:
    import onnx

    nodes = onnx.load(exported / "model.float16.onnx").graph.node
    convolutions = [node.name for node in nodes if node.op_type == "Conv"]
    trt.float32 = {convolutions[2], convolutions[5]}
    with pytest.raises(MismatchError) as refusal:
        built(exported, tmp_path / "engine")
    assert str(refusal.value) == (
        "target 'tensorrt': 2 layers were meant to run in float16, but run in float32 "
        f"({', '.join(sorted(trt.float32))}), so no engine was written; take a newer TensorRT, or "
        "precision.tensorrt = float32"
    )
    assert list(tmp_path.iterdir()) == []


def test_normalisation_and_length_may_run_in_float32(trt: TensorRt, exported: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(exported / "model.float16.onnx"))
    meant = {layer.name for layer in nvidia.layers_of(model)[1:] if layer.get_output(0).dtype == nvidia.DataType.FLOAT}
    assert meant
    trt.float32 = meant
    built(exported, tmp_path / "engine")


def test_float32_can_be_asked_for(trt: TensorRt, tmp_path: Path) -> None:
    trt.float32 = {"any"}
    engine = built(export(tmp_path, "float32"), tmp_path / "engine", precision={"tensorrt": "float32"})
    part = manifest_of(engine).targets["tensorrt"]
    assert (part.precision, part.files) == ("float32", ("model.float32.plan",))
    assert part.parity >= 0.9999
    assert "float16_layers" not in part.details


@pytest.mark.parametrize("output", ["frame", "places.middle", "logits"])
def test_a_plan_that_computes_something_else_is_refused(
    trt: TensorRt, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    real = nvidia.IExecutionContext._compute

    def coarse(context: nvidia.IExecutionContext, batch: int, addresses: dict[str, int]) -> None:
        real(context, batch, addresses)
        memory = trt.gpu.memory[addresses[output]].view(np.float32)
        memory[::3] *= np.float32(0.8)

    monkeypatch.setattr(nvidia.IExecutionContext, "_compute", coarse)
    with pytest.raises(
        MismatchError, match=r"float16: cosine -?[\d.]+ found, 0\.999 needed\), so no engine was written"
    ):
        built(exported, tmp_path / "engine")
    assert list(tmp_path.iterdir()) == []
    assert not trt.gpu.open()


def test_an_inspector_that_tells_no_types_is_said(
    trt: TensorRt, exported: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trt.tells_types = False
    engine = built(exported, tmp_path / "engine")
    assert manifest_of(engine).targets["tensorrt"].details["float16_layers"] == 0
    assert "TensorRT's inspector tells no types, so whether the plan runs in float16 is not known" in caplog.messages


def test_a_graph_that_tensorrt_cannot_read_is_one_sentence(trt: TensorRt, exported: Path, tmp_path: Path) -> None:
    trt.reads = False
    with pytest.raises(DataError) as fault:
        built(exported, tmp_path / "engine")
    assert str(fault.value) == (
        "model.float16.onnx: TensorRT 10.3.0 cannot read it (node 0 is unknown; node 1 is unknown); update it"
    )


def test_a_plan_that_cannot_be_built_is_one_sentence(trt: TensorRt, exported: Path, tmp_path: Path) -> None:
    trt.builds = False
    with pytest.raises(DataError) as fault:
        built(exported, tmp_path / "engine")
    assert str(fault.value) == (
        "model.float16.onnx: TensorRT 10.3.0 cannot build it (Could not find any implementation for node X); "
        "free memory of the GPU, or change tensorrt.workspace_mb or tensorrt.max_frames"
    )
    assert list(tmp_path.iterdir()) == []


def test_no_gpu_is_one_sentence(trt: TensorRt, exported: Path, tmp_path: Path) -> None:
    from cuda.bindings import runtime

    trt.gpu.fail("cudaSetDevice", runtime.cudaError_t.cudaErrorInsufficientDriver)
    with pytest.raises(DeviceError, match=r"CUDA cannot open a GPU: CUDA driver version is insufficient"):
        built(exported, tmp_path / "engine")


def target_telling(tell: Any) -> Any:
    from quarterturn.engine_build.tensorrt import TensorRtTarget

    return TensorRtTarget(BuildSettings().tensorrt, Path("none"), tell)


def test_progress_is_told(trt: TensorRt, exported: Path, tmp_path: Path) -> None:
    from quarterturn.engine_build.source import ExportedGraphs

    told: list[str] = []
    target_telling(told.append).write(ExportedGraphs(exported), tmp_path, "float16")
    assert told == [f"building tensorrt: Building Engine, {step} of 2" for step in (1, 2)]


def test_ctrl_c_ends_the_build_and_not_the_process(trt: TensorRt, exported: Path, tmp_path: Path) -> None:
    """An exception must not fly through TensorRT's C++."""
    from quarterturn.engine_build.source import ExportedGraphs

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        target_telling(interrupt).write(ExportedGraphs(exported), tmp_path, "float16")
    assert not list(tmp_path.glob("*.plan"))


def test_the_engine_hash_is_the_plan_s(trt: TensorRt, exported: Path, tmp_path: Path) -> None:
    """The timing cache beside it may change; a bank stays bound to the plan."""
    engine = built(exported, tmp_path / "engine")
    before = manifest_of(engine)
    document = json.loads((engine / "manifest.json").read_text())
    document["files"]["timing.10.3.0.cache"] = "0" * 64
    (engine / "manifest.json").write_text(json.dumps(document))
    assert manifest_of(engine).engine_hash("tensorrt") == before.engine_hash("tensorrt")
    document["files"]["model.float16.plan"] = "0" * 64
    (engine / "manifest.json").write_text(json.dumps(document))
    assert manifest_of(engine).engine_hash("tensorrt") != before.engine_hash("tensorrt")
