"""The TensorRT engine on a GPU that keeps the rules (tests/nvidia.py): order of calls, buffers, errors, leaks."""

from __future__ import annotations

import importlib
import itertools
import json
import logging
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda.bindings import runtime as cudart

from quarterturn.engine_build.build import build
from quarterturn.engine_build.config import BuildSettings
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.errors import ConfigError, DataError, DeviceError, MismatchError
from quarterturn.worker.contract.manifest import sha256
from quarterturn.worker.engine.base import open_folder
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.runtime.assemble import open_engine
from quarterturn.worker.runtime.health import Health
from quarterturn.worker.runtime.service import Service
from quarterturn.worker.settings.worker import BatchSettings, EngineSettings
from quarterturn.worker.transport.memory import MemoryTransport
from tests.nvidia import Gpu, TensorRt, installed
from tests.parts import bank_of, frame, good_part, png
from tests.worker.engine.graphs import SHAPES, SIDE, SPEC, oracle, random_frames, write_engine

MOST = 4
OUTPUTS = len(SHAPES)
CLOSE = 5e-3  # float16
ILLEGAL = cudart.cudaError_t.cudaErrorIllegalAddress
FULL = cudart.cudaError_t.cudaErrorMemoryAllocation


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine for the GPU named Orin, made of a graph that was exported elsewhere."""
    plant = tmp_path_factory.mktemp("plant")
    exported = write_engine(plant / "exported", "float16", ["onnxruntime"])
    document = {"model": exported, "out": plant / "engine", "targets": ["tensorrt"]}
    profile = {"opt_frames": 2, "max_frames": MOST}
    with installed(TensorRt(Gpu())):
        return build(BuildSettings.model_validate({**document, "tensorrt": profile}), progress=False)


@pytest.fixture(params=itertools.product([False, True], [False, True]), ids="integrated={0[0]},eager={0[1]}".format)
def trt(request: pytest.FixtureRequest) -> Iterator[TensorRt]:
    """TensorRT on every kind of GPU."""
    integrated, eager = request.param
    fake = TensorRt(Gpu(integrated=integrated, eager=eager))
    with installed(fake):
        yield fake


@pytest.fixture
def discrete() -> Iterator[TensorRt]:
    fake = TensorRt(Gpu())
    with installed(fake):
        yield fake


def opened(path: Path) -> Any:
    """The engine as the worker opens it."""
    return open_engine(EngineSettings(path=path, target="tensorrt"))


def calls_of(gpu: Gpu, engine: Any, batch: int) -> list[str]:
    """What one `embed` calls when everything is prepared."""
    engine.embed(random_frames(batch))
    before = len(gpu.calls)
    engine.embed(random_frames(batch))
    return gpu.calls[before:]


def assert_close(found: Embeddings, wanted: Embeddings, tolerance: float = CLOSE) -> None:
    """All outputs, in the same order, and of the same numbers."""
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], values, atol=tolerance, rtol=0, err_msg=name)


@pytest.mark.parametrize("batch", [0, 1, 2, 3, 4, 5, 8, 9, 13])
def test_embeddings_are_those_of_the_definition(trt: TensorRt, built: Path, batch: int) -> None:
    with closing(opened(built)) as engine:
        for seed in (0, 1, 2):  # prepared, replayed, and with other batches in between
            frames = random_frames(batch, seed)
            found = engine.embed(frames)
            assert [values.shape for values in found.values()] == [(batch, *shape) for shape in SHAPES.values()]
            assert_close(found, oracle(frames))
            engine.embed(random_frames(2, seed + 10))


def test_an_engine_says_what_it_is(trt: TensorRt, built: Path) -> None:
    folder = open_folder(built, "tensorrt")
    with closing(opened(built)) as engine:
        assert (engine.spec, engine.hash, engine.target) == (folder.manifest.spec, folder.hash, "tensorrt")


def test_the_caller_keeps_the_embeddings(trt: TensorRt, built: Path) -> None:
    with closing(opened(built)) as engine:
        first = engine.embed(random_frames(6))
        before = {name: values.copy() for name, values in first.items()}
        engine.embed(random_frames(6, seed=1))
        assert_close(first, before, 0)


def test_frames_may_be_any_view_into_memory(trt: TensorRt, built: Path) -> None:
    frames = random_frames(6)
    with closing(opened(built)) as engine:
        wanted = engine.embed(frames)
        assert_close(engine.embed(np.asfortranarray(frames)), wanted, 0)
        backwards = engine.embed(frames[::-1])
        assert_close({name: values[::-1] for name, values in backwards.items()}, wanted, 0)
        with pytest.raises(ValueError, match=rf"frames must be uint8 \(B, {SIDE}, {SIDE}, 3\), not float32"):
            engine.embed(frames.astype(np.float32))


def test_a_batch_is_one_launch_and_one_wait(trt: TensorRt, built: Path) -> None:
    with closing(opened(built)) as engine:
        for batch in (1, 3, MOST):
            assert calls_of(trt.gpu, engine, batch) == ["cudaGraphLaunch", "cudaStreamSynchronize"]


def test_one_lane_copies_while_the_other_computes(trt: TensorRt, built: Path) -> None:
    launch, wait = "cudaGraphLaunch", "cudaStreamSynchronize"
    with closing(opened(built)) as engine:
        assert calls_of(trt.gpu, engine, 3 * MOST + 1) == [launch, launch, wait, launch, wait, launch, wait, wait]
        assert len(trt.gpu.queues) == 2


def test_a_batch_size_is_prepared_once_in_each_lane(discrete: TensorRt, built: Path) -> None:
    with closing(opened(built)) as engine:
        before = len(discrete.gpu.calls)
        engine.embed(random_frames(2))
        run = ["cudaMemcpyAsync", "execute_async_v3", *["cudaMemcpyAsync"] * OUTPUTS]
        assert discrete.gpu.calls[before:] == [
            *run,
            *("cudaStreamSynchronize", "cudaStreamBeginCapture"),
            *run,
            *("cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphDestroy"),
            *("cudaGraphLaunch", "cudaStreamSynchronize"),
        ]


def test_nothing_is_allocated_for_a_batch(trt: TensorRt, built: Path) -> None:
    with closing(opened(built)) as engine:
        count = len(trt.gpu.calls)
        engine.embed(random_frames(9))
        made = {name for name in trt.gpu.calls[count:] if "Alloc" in name or "Malloc" in name or "Create" in name}
        assert not made
        before = trt.gpu.open()
        for batch in (9, 1, 4, 9):
            engine.embed(random_frames(batch))
        assert {kind: trt.gpu.open()[kind] for kind in ("memory", "pinned", "queues")} == {
            kind: before[kind] for kind in ("memory", "pinned", "queues")
        }


@pytest.mark.parametrize("integrated", [False, True])
def test_an_integrated_gpu_works_in_the_host_s_memory(built: Path, integrated: bool) -> None:
    trt = TensorRt(Gpu(integrated=integrated))
    with installed(trt), closing(opened(built)) as engine:
        engine.embed(random_frames(5))
        assert ("cudaMemcpyAsync" in trt.gpu.calls) is not integrated
        buffers = 2 * (1 + OUTPUTS)
        assert trt.gpu.calls.count("cudaMalloc") == 2 + (0 if integrated else buffers), "working memory, and buffers"
        assert trt.gpu.calls.count("cudaHostAlloc") == buffers


def test_what_cannot_be_captured_runs_call_by_call(
    trt: TensorRt, built: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trt.refuses_capture = True
    with closing(opened(built)) as engine:
        frames = random_frames(6)
        assert "cudaGetLastError" not in trt.gpu.calls
        assert_close(engine.embed(frames), oracle(frames))
        assert "cudaGetLastError" in trt.gpu.calls, "TensorRT must not find the error of the capture"
        copy = [] if trt.gpu.properties.integrated else ["cudaMemcpyAsync"]
        assert calls_of(trt.gpu, engine, 2) == [*copy, "execute_async_v3", *copy * OUTPUTS, "cudaStreamSynchronize"]
    assert (
        "batches of 4 frames run without a CUDA graph: TensorRT cannot run the plan: "
        "operation not permitted when stream is capturing"
    ) in caplog.messages
    assert not trt.gpu.open()


@pytest.mark.parametrize("name", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"])
def test_a_graph_that_cannot_be_made_is_done_without(discrete: TensorRt, built: Path, name: str) -> None:
    discrete.gpu.fail(name, FULL)
    with closing(opened(built)) as engine:
        frames = random_frames(3)
        assert_close(engine.embed(frames), oracle(frames))
        assert calls_of(discrete.gpu, engine, 3)[0] == "cudaMemcpyAsync"
        assert calls_of(discrete.gpu, engine, 2)[0] == "cudaGraphLaunch"
    assert not discrete.gpu.open()


def every_call(built: Path, integrated: bool) -> list[tuple[str, int, bool]]:
    """Each call of a whole life, its number among those of its name, and whether the engine can do without it."""
    trt = TensorRt(Gpu(integrated=integrated))
    assert fault_of(built, trt) is None
    found, capturing = [], False
    for place, name in enumerate(trt.gpu.calls):
        capturing = name == "cudaStreamBeginCapture" or (capturing and name != "cudaStreamEndCapture")
        spared = capturing or any(part in name for part in ("EndCapture", "Instantiate", "Free", "Destroy"))
        if name.startswith("cuda"):
            found.append((name, trt.gpu.calls[: place + 1].count(name), spared))
    return found


def fault_of(built: Path, trt: TensorRt) -> str | None:
    """What a whole life on this GPU ends with."""
    with installed(trt):
        try:
            with closing(opened(built)) as engine:
                engine.embed(random_frames(2 * MOST + 1))
        except DeviceError as error:
            return str(error)
    return None


@pytest.mark.parametrize("integrated", [False, True])
def test_whatever_call_fails_is_one_sentence_and_nothing_leaks(built: Path, integrated: bool) -> None:
    stopped = set()
    for name, nth, spared in every_call(built, integrated):
        trt = TensorRt(Gpu(integrated=integrated))
        trt.gpu.fail(name, ILLEGAL, nth)
        fault = fault_of(built, trt)
        if spared:
            assert fault is None, (name, nth)
        else:
            stopped.add(name)
            sentence = (
                r"CUDA cannot [^\n]+: an illegal memory access was encountered \(cudaErrorIllegalAddress\); [^\n]+"
            )
            assert re.fullmatch(sentence, str(fault)), (name, nth)
        kept = {"cudaFree": {"memory"}, "cudaFreeHost": {"pinned", "memory"}, "cudaStreamDestroy": {"queues"}}
        kept |= {"cudaGraphDestroy": {"graphs"}, "cudaGraphExecDestroy": {"executables"}}
        assert trt.gpu.open().keys() <= kept.get(name, set()), (name, nth)
        assert set(trt.gpu.open().values()) <= {1}, "what could not be freed, and nothing else"
    assert stopped >= {"cudaSetDevice", "cudaHostAlloc", "cudaMalloc", "cudaStreamSynchronize", "cudaGraphLaunch"}


def test_a_gpu_that_fails_is_named(discrete: TensorRt, built: Path) -> None:
    with closing(opened(built)) as engine:
        engine.embed(random_frames(1))
        discrete.gpu.fail("cudaStreamSynchronize", ILLEGAL)
        with pytest.raises(DeviceError) as fault:
            engine.embed(random_frames(1))
    assert str(fault.value) == (
        "CUDA cannot finish the work: an illegal memory access was encountered (cudaErrorIllegalAddress); "
        "start again, and look after the GPU if it recurs"
    )


def test_a_failing_gpu_stops_the_worker_and_its_batch_stays_undone(discrete: TensorRt, built: Path) -> None:
    with closing(opened(built)) as engine:
        inspector = Inspector(engine, "line-1", overkill=0.02)
        inspector.use(bank_of(engine))
        pictures = [frame(png(good_part(np.random.default_rng(n))), offset=n) for n in range(3 * MOST)]
        transport = MemoryTransport(pictures)
        discrete.gpu.fail("cudaStreamSynchronize", ILLEGAL, nth=2)
        service = Service(transport, inspector, Health(), BatchSettings(max_frames=MOST))
        with pytest.raises(DeviceError, match="CUDA cannot finish the work: an illegal memory access was encountered"):
            service.run(threading.Event())
    assert [outcome.position.offset for outcome in transport.outcomes] == [0, 1, 2, 3]


def test_no_gpu_is_one_sentence(discrete: TensorRt, built: Path) -> None:
    discrete.gpu.fail("cudaSetDevice", cudart.cudaError_t.cudaErrorNoDevice)
    with pytest.raises(DeviceError) as fault:
        opened(built)
    assert str(fault.value) == (
        "CUDA cannot open a GPU: no CUDA-capable device is detected (cudaErrorNoDevice); "
        "install its driver, and start a container with its GPU"
    )


def test_freed_once_however_often_closed(trt: TensorRt, built: Path) -> None:
    engine = opened(built)
    engine.embed(random_frames(MOST + 1))
    assert trt.gpu.open()
    assert len(trt.gpu.contexts) == 2, "one for each batch size of each lane"
    engine.close()
    assert not trt.gpu.open()
    assert not trt.gpu.contexts
    engine.close()


def test_what_cannot_be_freed_is_logged(discrete: TensorRt, built: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = opened(built)
    discrete.gpu.fail("cudaStreamDestroy", ILLEGAL)
    engine.close()
    assert caplog.messages == [
        "CUDA cannot free a stream: an illegal memory access was encountered (cudaErrorIllegalAddress)"
    ]


@pytest.mark.parametrize(
    ("fake", "here"),
    [
        (TensorRt(Gpu(), "10.3.1"), "TensorRT 10.3.1 on Orin of compute capability 8.7"),
        (TensorRt(Gpu("Thor", "11.0")), "TensorRT 10.3.0 on Thor of compute capability 11.0"),
        (TensorRt(Gpu("Orin NX")), "TensorRT 10.3.0 on Orin NX of compute capability 8.7"),
    ],
    ids=["version", "capability", "name"],
)
def test_a_plan_of_another_device_is_refused(built: Path, fake: TensorRt, here: str) -> None:
    with installed(fake), pytest.raises(MismatchError) as refusal:
        opened(built)
    assert str(refusal.value) == (
        f"{built}/model.float16.plan: was built for TensorRT 10.3.0 on Orin of compute capability 8.7, "
        f"but here is {here}; build it on this device: quarterturn build --target tensorrt "
        f"--set model={built} --set out={built}"
    )


def changed(built: Path, copy: Path, **manifest: Any) -> Path:
    """A copy of an engine with another plan or another manifest."""
    shutil.copytree(built, copy)
    document = json.loads((copy / "manifest.json").read_text())
    document["spec"] |= manifest
    document["files"]["model.float16.plan"] = sha256((copy / "model.float16.plan").read_bytes())
    (copy / "manifest.json").write_text(json.dumps(document))
    return copy


def test_a_plan_that_cannot_be_loaded_is_one_sentence(discrete: TensorRt, built: Path, tmp_path: Path) -> None:
    copy = changed(built, tmp_path / "engine")
    (copy / "model.float16.plan").write_bytes(b"no plan")
    with pytest.raises(MismatchError, match=r"model\.float16\.plan: has hash"):
        opened(copy)
    copy = changed(copy, tmp_path / "again")
    with pytest.raises(DataError) as fault:
        opened(copy)
    assert str(fault.value) == (
        f"{copy}/model.float16.plan: TensorRT 10.3.0 cannot load it (magicTag does not match); "
        f"build it on this device: quarterturn build --target tensorrt --set model={copy} --set out={copy}"
    )


def test_a_manifest_of_another_graph_is_refused(discrete: TensorRt, built: Path, tmp_path: Path) -> None:
    deep = {"grid": 2, "dimensions": 99}
    copy = changed(built, tmp_path / "engine", logits=None, places={**SPEC.model_dump()["places"], "deep": deep})
    with pytest.raises(MismatchError) as refusal:
        opened(copy)
    assert str(refusal.value) == (
        f"{copy}/model.float16.plan: the graph does not fit the manifest: places.deep is float32 (-1, 4, 4, 7) in the "
        "graph, float32 (-1, 4, 4, 99) in the manifest, logits is float32 (-1, 4, 64) in the graph, missing in the "
        "manifest; build the engine again"
    )
    assert not discrete.gpu.open()


def test_missing_packages_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ConfigError) as fault:
        importlib.import_module("quarterturn.worker.engine.tensorrt")
    assert str(fault.value) == (
        "target 'tensorrt' needs NVIDIA's package 'tensorrt' (import of tensorrt halted; None in sys.modules); "
        "it comes with JetPack or from NVIDIA's index, see docs/engines.md"
    )
    monkeypatch.delitem(sys.modules, "quarterturn.worker.engine.cuda")
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(ConfigError) as fault:
        importlib.import_module("quarterturn.worker.engine.cuda")
    assert str(fault.value) == "target 'tensorrt' needs a package; run: pip install 'quarterturn[tensorrt]'"


def test_what_tensorrt_says_is_logged(discrete: TensorRt, caplog: pytest.LogCaptureFixture) -> None:
    from quarterturn.worker.engine.tensorrt import LOG

    caplog.set_level(logging.DEBUG)
    for severity in discrete.ILogger.Severity:
        LOG.log(severity, severity.name)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "TensorRT: INTERNAL_ERROR"),
        ("WARNING", "TensorRT: ERROR"),
        ("WARNING", "TensorRT: WARNING"),
        ("DEBUG", "TensorRT: INFO"),
        ("DEBUG", "TensorRT: VERBOSE"),
    ]
    assert LOG.fault == "ERROR"
