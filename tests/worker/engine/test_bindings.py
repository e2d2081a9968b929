"""What the code uses of TensorRT and CUDA exists in each version of their real bindings."""

from __future__ import annotations

import enum
import inspect
from pathlib import Path

import pytest

from tests import bindings, nvidia

ENGINE = bindings.ROOT / "worker/engine/tensorrt.py"
BUILDER = bindings.ROOT / "engine_build/tensorrt.py"
CUDA = bindings.ROOT / "worker/engine/cuda.py"

pytestmark = pytest.mark.usefixtures("vendor_bindings")


@pytest.mark.parametrize("version", bindings.TENSORRT)
def test_tensorrt_has_all_that_engine_and_builder_use(version: str) -> None:
    found = bindings.tensorrt_uses(version, ENGINE, BUILDER)
    assert found["faults"] == []
    assert found["version"] == version
    for use in (  # the reader follows the code to its ends
        "IExecutionContext.execute_async_v3",
        "ICudaEngine.get_tensor_profile_shape",
        "create_execution_context(strategy=)",
        "ITimingCache.serialize",
        "ITensor.dtype",
        "ParserError.desc",
        "Severity.ERROR",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
    ):
        assert use in found["uses"]


@pytest.mark.parametrize("version", bindings.CUDA)
def test_cuda_has_all_that_the_engine_uses(version: str) -> None:
    found = bindings.cuda_uses(version, CUDA)
    assert found["faults"] == []
    for use in ("cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal", "cudaDeviceProp.integrated"):
        assert use in found["uses"]
    called = {use.removeprefix("runtime.") for use in found["uses"] if use.startswith("runtime.cuda")}
    assert called >= {"cudaMemcpyAsync", "cudaHostAlloc", "cudaGraphLaunch", "cudaFree"}


def offered() -> str:
    """What the TensorRT of the tests offers, as a file that uses all of it."""
    lines = ["import tensorrt as trt"]
    for kind, fake in nvidia.FAKES.items():
        lines.append(f"class {kind}Fake(trt.{kind}):\n    known = 1")
        for name, value in vars(fake).items():
            if inspect.isfunction(value) and not name.startswith("_"):
                lines.append(f"    def {name}({', '.join(inspect.signature(value).parameters)}): pass")
        names = [n for n, v in vars(fake).items() if not inspect.isfunction(v) and not n.startswith("_")]
        lines += [f"trt.{kind}.{name}" for name in names]
    enums = {n: e for n, e in vars(nvidia.TensorRt).items() if isinstance(e, type) and issubclass(e, enum.Enum)}
    lines += [f"trt.{name}.{member.name}" for name, kind in enums.items() for member in kind]
    return "\n".join([*lines, *(f"trt.ILogger.Severity.{severity.name}" for severity in nvidia.Severity)])


@pytest.mark.parametrize("version", bindings.TENSORRT)
def test_the_tensorrt_of_the_tests_offers_nothing_else(version: str, tmp_path: Path) -> None:
    (tmp_path / "fake.py").write_text(offered())
    found = bindings.tensorrt_uses(version, tmp_path / "fake.py")
    assert found["faults"] == []
    assert len(found["uses"]) > 50


@pytest.mark.parametrize("version", bindings.CUDA)
def test_the_cuda_of_the_tests_offers_nothing_else(version: str, tmp_path: Path) -> None:
    calls = [
        f"cudart.{name}({', '.join('0' for _ in list(inspect.signature(value).parameters)[1:])})"
        for name, value in vars(nvidia.Gpu).items()
        if name.startswith("cuda")
    ]
    (tmp_path / "fake.py").write_text("\n".join(["from cuda.bindings import runtime as cudart", *calls]))
    assert bindings.cuda_uses(version, tmp_path / "fake.py")["faults"] == []
    assert len(calls) > 15


WRONG = """
import tensorrt as trt

LOG = trt.Logger(trt.Logger.WARNING)

class Watch(trt.IProgressMonitor):
    def step_complete(self, phase_name):
        return self.patience

    def phase_over(self, phase_name):
        pass

class Runner:
    def __init__(self, engine: trt.ICudaEngine) -> None:
        self._contexts: list[trt.IExecutionContext] = []
        self._engine = engine

    def run(self) -> None:
        self._engine.num_bindings
        for context in self._contexts:
            context.enqueue([])
            context.set_tensor_address("frames", memory=0, device=0)

def build() -> None:
    builder = trt.Builder(LOG)
    builder.max_workspace_size
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.FP61)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED), 0)
    [network.get_layer(n).get_output(0).typ for n in range(3)]
    parser = trt.OnnxParser(network, LOG)
    parser.get_error(0).desc()
"""


def test_what_does_not_exist_is_found(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    faults = bindings.tensorrt_uses("10.13.3.9.post1", tmp_path / "wrong.py")["faults"]
    assert [fault.split(":", 1)[1] for fault in faults] == [
        "7: IProgressMonitor.step_complete takes other arguments than ['self', 'phase_name']",
        "8: IProgressMonitor.patience does not exist",
        "10: IProgressMonitor.phase_over does not exist",
        "19: ICudaEngine.num_bindings does not exist",
        "21: IExecutionContext.enqueue does not exist",
        "22: set_tensor_address takes ['self', 'name', 'memory'], not 3 arguments with ['device', 'memory']",
        "26: Builder.max_workspace_size does not exist",
        "28: BuilderFlag.FP61 does not exist",
        "29: create_network takes ['self', 'flags'], not 2 arguments with []",
        "30: ITensor.typ does not exist",
        "32: '.desc' of something from get_error, whose type is unknown; annotate it",
    ]


def test_what_left_with_a_version_is_found(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("import tensorrt as trt\n\nflag = trt.BuilderFlag.FP16\n")
    assert bindings.tensorrt_uses(bindings.OLDEST, tmp_path / "old.py")["faults"] == []
    (fault,) = bindings.tensorrt_uses("11.4.0.106", tmp_path / "old.py")["faults"]
    assert fault.endswith("old.py:3: BuilderFlag.FP16 does not exist")
