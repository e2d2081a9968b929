"""A GPU with CUDA and TensorRT for tests, where there is none: it keeps their rules and computes with ONNX Runtime.

`Gpu` stands for `cuda.bindings.runtime`, `TensorRt` for `tensorrt`. A stream does its work as late as it may (when
somebody waits for it) or, with `eager`, at once: what is right in both does not depend on when the GPU works. What
the real ones forbid fails here, too; `Gpu.fail` makes any call fail; `Gpu.open` says what was not freed.
That nothing here exists which the real packages lack is a test (tests/worker/engine/test_bindings.py).
"""

from __future__ import annotations

import enum
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import numpy as np
import onnx
import onnxruntime
import pytest
from cuda.bindings import runtime as cudart
from onnx import TensorProto

Work = Callable[[], None]
SUCCESS = cudart.cudaError_t.cudaSuccess
UNSUPPORTED = cudart.cudaError_t.cudaErrorStreamCaptureUnsupported
INVALIDATED = cudart.cudaError_t.cudaErrorStreamCaptureInvalidated


def call(values: int) -> Callable[[Callable[..., Any]], Callable[..., tuple[Any, ...]]]:
    """A call of CUDA's that returns so many values after its error; it is written down, and fails on demand."""

    def wrap(function: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
        @functools.wraps(function)
        def wrapped(gpu: Gpu, *arguments: Any) -> tuple[Any, ...]:
            name = function.__name__
            gpu.calls.append(name)
            error = gpu.wanted.get(name, {}).get(gpu.calls.count(name))
            if error is not None and name == "cudaStreamEndCapture":
                del gpu.captures[int(arguments[0])]  # it ends the capture in any case
            result = function(gpu, *arguments) if error is None else error
            if isinstance(result, cudart.cudaError_t):
                return (result, *[None] * values)
            return (SUCCESS, result) if values else (SUCCESS,)

        return wrapped

    return wrap


class Gpu:
    """`cuda.bindings.runtime` with one device. `calls` are the names of all calls so far."""

    def __init__(
        self, name: str = "Orin", capability: str = "8.7", integrated: bool = False, eager: bool = False
    ) -> None:
        major, minor = map(int, capability.split("."))
        self.properties = SimpleNamespace(name=name.encode(), major=major, minor=minor, integrated=int(integrated))
        self.eager = eager
        self.calls: list[str] = []
        self.wanted: dict[str, dict[int, Any]] = {}
        self.memory: dict[int, np.ndarray] = {}
        self.pinned: dict[int, np.ndarray] = {}
        self.mapped: dict[int, int] = {}
        self.queues: dict[int, list[Work]] = {}
        self.captures: dict[int, list[Work] | None] = {}  # None: something in it could not be captured
        self.graphs: dict[int, list[Work]] = {}
        self.executables: dict[int, list[Work]] = {}
        self.contexts: WeakSet[IExecutionContext] = WeakSet()
        self._numbers = iter(range(1 << 32, 1 << 40, 1 << 20))

    def __getattr__(self, name: str) -> Any:
        return getattr(cudart, name)  # enums, flags and texts

    def fail(self, name: str, error: Any, nth: int = 1) -> None:
        """Let the nth call of `name` from now on return `error`."""
        self.wanted.setdefault(name, {})[self.calls.count(name) + nth] = error

    def open(self) -> Counter[str]:
        """How much of everything is not freed yet."""
        kinds = ("memory", "pinned", "queues", "captures", "graphs", "executables")
        return Counter({kind: len(getattr(self, kind)) for kind in kinds if getattr(self, kind)})

    def enqueue(self, stream: int, work: Work) -> None:
        """Work of a stream: captured, queued or done."""
        captured = self.captures.get(stream)
        if captured is not None:
            captured.append(work)
        elif self.eager:
            work()
        else:
            self.queues[stream].append(work)

    def unsafe(self) -> Any:
        """What may not be called while a stream is captured spoils the capture."""
        for stream in self.captures:
            self.captures[stream] = None
        return UNSUPPORTED if self.captures else None

    @call(0)
    def cudaSetDevice(self, device: int) -> Any:
        assert device == 0

    @call(1)
    def cudaGetDeviceProperties(self, device: int) -> Any:
        assert device == 0
        return self.properties

    @call(0)
    def cudaGetLastError(self) -> Any:
        return None

    @call(1)
    def cudaMalloc(self, size: int) -> Any:
        assert size > 0
        address = next(self._numbers)
        if error := self.unsafe():
            return error
        self.memory[address] = np.full(size, 0xAA, np.uint8)
        return address

    @call(0)
    def cudaFree(self, address: int) -> Any:
        assert address not in self.mapped.values()
        del self.memory[address]

    @call(1)
    def cudaHostAlloc(self, size: int, flags: int) -> Any:
        if error := self.unsafe():
            return error
        assert flags == (cudart.cudaHostAllocMapped if self.properties.integrated else cudart.cudaHostAllocDefault)
        array = np.full(size, 0xBB, np.uint8)
        self.pinned[array.ctypes.data] = array
        return array.ctypes.data

    @call(1)
    def cudaHostGetDevicePointer(self, host: int, flags: int) -> Any:
        assert flags == 0
        self.mapped[host] = next(self._numbers)
        self.memory[self.mapped[host]] = self.pinned[host]
        return self.mapped[host]

    @call(0)
    def cudaFreeHost(self, host: int) -> Any:
        del self.pinned[host]
        if host in self.mapped:
            del self.memory[self.mapped.pop(host)]

    @call(1)
    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        assert flags == cudart.cudaStreamNonBlocking
        number = next(self._numbers)
        self.queues[number] = []
        return cudart.cudaStream_t(number)

    @call(0)
    def cudaStreamDestroy(self, stream: Any) -> Any:
        del self.queues[int(stream)]

    @call(0)
    def cudaStreamSynchronize(self, stream: Any) -> Any:
        if error := self.unsafe():
            return error
        queue = self.queues[int(stream)]
        while queue:
            queue.pop(0)()
        return None

    @call(0)
    def cudaMemcpyAsync(self, to: int, origin: int, size: int, kind: Any, stream: Any) -> Any:
        host, device = (self.pinned, self.memory)
        inwards = kind == cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        target, source = (device[to], host[origin]) if inwards else (host[to], device[origin])
        assert size <= min(target.size, source.size)

        def copy() -> None:
            target[:size] = source[:size]

        self.enqueue(int(stream), copy)

    @call(0)
    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> Any:
        assert mode == cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        assert not self.queues[int(stream)]
        self.captures[int(stream)] = []

    @call(1)
    def cudaStreamEndCapture(self, stream: Any) -> Any:
        captured = self.captures.pop(int(stream))
        if captured is None:
            return INVALIDATED
        number = next(self._numbers)
        self.graphs[number] = captured
        return cudart.cudaGraph_t(number)

    @call(1)
    def cudaGraphInstantiate(self, graph: Any, flags: int) -> Any:
        assert flags == 0
        number = next(self._numbers)
        self.executables[number] = list(self.graphs[int(graph)])
        return cudart.cudaGraphExec_t(number)

    @call(0)
    def cudaGraphDestroy(self, graph: Any) -> Any:
        del self.graphs[int(graph)]

    @call(0)
    def cudaGraphLaunch(self, executable: Any, stream: Any) -> Any:
        for work in self.executables[int(executable)]:
            self.enqueue(int(stream), work)

    @call(0)
    def cudaGraphExecDestroy(self, executable: Any) -> Any:
        del self.executables[int(executable)]


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    Severity = Severity

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


DataType = enum.Enum("DataType", "FLOAT HALF UINT8 INT64")
TYPES = {
    TensorProto.FLOAT: DataType.FLOAT,
    TensorProto.FLOAT16: DataType.HALF,
    TensorProto.UINT8: DataType.UINT8,
    TensorProto.INT64: DataType.INT64,
}
SCRATCH = 4096


class TensorRt:
    """`tensorrt`, on `gpu`. `float32` names layers that it runs in float32 whatever their type."""

    ILogger = ILogger
    IProgressMonitor = IProgressMonitor
    DataType = DataType
    NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 5})
    ExecutionContextAllocationStrategy = enum.Enum("ExecutionContextAllocationStrategy", "STATIC USER_MANAGED")
    MemoryPoolType = enum.Enum("MemoryPoolType", "WORKSPACE")
    ProfilingVerbosity = enum.Enum("ProfilingVerbosity", "DETAILED")
    BuilderFlag = enum.Enum("BuilderFlag", "TF32")
    LayerInformationFormat = enum.Enum("LayerInformationFormat", "JSON")

    def __init__(self, gpu: Gpu, version: str = "10.3.0") -> None:
        self.__version__ = version
        self.gpu = gpu
        self.float32: set[str] = set()
        self.tells_types = True
        self.reads = self.builds = True
        self.interrupted = False
        self.refuses_capture = False
        self.config: IBuilderConfig | None = None
        self.Runtime = functools.partial(Runtime, self)
        self.Builder = functools.partial(Builder, self)
        self.OnnxParser = functools.partial(OnnxParser, self)


class Builder:
    def __init__(self, trt: TensorRt, logger: Any) -> None:
        self._trt, self._logger = trt, logger

    def create_network(self, flags: int) -> INetworkDefinition:
        assert flags == 1 << 5, "the number of STRONGLY_TYPED differs by version"
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        self._trt.config = IBuilderConfig(self._trt)
        return self._trt.config

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytearray | None:
        monitor, goes_on = config.progress_monitor, True
        monitor.phase_start("Building Engine", None, 2)
        for step in range(2):
            goes_on = goes_on and monitor.step_complete("Building Engine", step)
        monitor.phase_finish("Building Engine")
        if not goes_on:
            return None
        if not self._trt.builds:
            self._logger.log(Severity.INTERNAL_ERROR, "Could not find any\nimplementation for node X")
            return None
        assert config.profiles
        config.timings.known.update({layer.name: 1.0 for layer in network.layers})
        document = {
            "version": self._trt.__version__,
            "profile": config.profiles[0].shapes,
            "float32": sorted(self._trt.float32),
        }
        return bytearray(json.dumps(document).encode() + b"\n" + network.model)


class IBuilderConfig:
    builder_optimization_level = 3
    profiling_verbosity: Any = None
    progress_monitor: Any = None

    def __init__(self, trt: TensorRt) -> None:
        self._trt = trt
        self.limits: dict[Any, int] = {}
        self.cleared: list[Any] = []
        self.profiles: list[IOptimizationProfile] = []
        self.timings = ITimingCache(trt, {})

    def clear_flag(self, flag: Any) -> None:
        self.cleared.append(flag)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self.limits[pool] = pool_size

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        if not serialized_timing_cache:
            return ITimingCache(self._trt, {})
        try:
            return ITimingCache(self._trt, **json.loads(serialized_timing_cache))
        except ValueError:
            return None

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        fits = cache.gpu == self._trt.gpu.properties.name.decode()
        if fits:
            self.timings = cache
        return fits or ignore_mismatch

    def get_timing_cache(self) -> ITimingCache:
        return self.timings


class ITimingCache:
    def __init__(self, trt: TensorRt, known: dict[str, float], gpu: str | None = None) -> None:
        self.known = known
        self.before = dict(known)
        self.gpu = gpu or trt.gpu.properties.name.decode()

    def serialize(self) -> bytearray:
        return bytearray(json.dumps({"known": self.known, "gpu": self.gpu}).encode())


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002 - as theirs
        assert input == "frames"
        self.shapes = [min, opt, max]


class INetworkDefinition:
    def __init__(self) -> None:
        self.model = b""
        self.layers: list[SimpleNamespace] = []

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_layer(self, index: int) -> Any:
        return self.layers[index]


class OnnxParser:
    def __init__(self, trt: TensorRt, network: INetworkDefinition, logger: Any) -> None:
        self._trt, self._network = trt, network

    @property
    def num_errors(self) -> int:
        return 0 if self._trt.reads else 2

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(desc=lambda: f"node {index}\nis unknown")

    def parse_from_file(self, model: str) -> bool:
        graph = onnx.load(model)
        self._network.model = graph.SerializeToString()
        self._network.layers = layers_of(graph)
        return self._trt.reads


def layers_of(model: onnx.ModelProto) -> list[Any]:
    """A constant, and a layer for each node, each with the types of its tensors."""
    infos = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {info.name: info.type.tensor_type.elem_type for info in (*infos.value_info, *infos.input, *infos.output)}
    types |= {tensor.name: tensor.data_type for tensor in infos.initializer}

    def tensors(names: Any) -> Callable[[int], Any]:
        return lambda index: SimpleNamespace(dtype=TYPES[types[names[index]]])

    constant = SimpleNamespace(name="weights", num_inputs=0)
    nodes = [
        SimpleNamespace(name=n.name, num_inputs=len(n.input), get_input=tensors(n.input), get_output=tensors(n.output))
        for n in model.graph.node
    ]
    return [constant, *nodes]


class Runtime:
    def __init__(self, trt: TensorRt, logger: Any) -> None:
        self._trt, self._logger = trt, logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        head, _, model = serialized_engine.partition(b"\n")
        try:
            return ICudaEngine(self._trt, json.loads(head), model, self._logger)
        except ValueError:
            self._logger.log(Severity.ERROR, "magicTag does not\nmatch")
            return None


class ICudaEngine:
    device_memory_size_v2 = SCRATCH

    def __init__(self, trt: TensorRt, document: dict[str, Any], model: bytes, logger: Any) -> None:
        self.trt, self.document, self.logger = trt, document, logger
        self.model = onnx.load_from_string(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        graph = self.model.graph
        self.outputs = [tensor.name for tensor in graph.output]
        # By their number nothing is known of them: no order is promised.
        self.tensors = {tensor.name: tensor.type.tensor_type for tensor in (*reversed(graph.output), *graph.input)}

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name: str) -> DataType:
        return TYPES[self.tensors[name].elem_type]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(dim.dim_value or -1 for dim in self.tensors[name].shape.dim)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert (name, profile_index) == ("frames", 0)
        return [tuple(shape) for shape in self.document["profile"]]

    def create_execution_context(self, strategy: Any = None) -> IExecutionContext:
        return IExecutionContext(self, strategy == self.trt.ExecutionContextAllocationStrategy.USER_MANAGED)

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine, unmanaged: bool) -> None:
        self.engine, self.gpu = engine, engine.trt.gpu
        self.gpu.contexts.add(self)
        self.memory = 0 if unmanaged else -1
        self.profile = -1
        self.batch = 0
        self.addresses: dict[str, int] = {}
        self.ready = False

    def set_device_memory(self, memory: int, size: int) -> None:
        assert self.gpu.memory[memory].size >= size >= SCRATCH
        self.memory = memory

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        assert stream_handle in self.gpu.queues
        self.profile = profile_index
        return profile_index == 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.get_tensor_profile_shape(name, 0)
        self.batch = shape[0]
        return least[0] <= shape[0] <= most[0] and tuple(shape[1:]) == least[1:]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert memory not in self.addresses.values(), "two tensors in one place"
        self.addresses[name] = memory
        return name in self.engine.tensors and memory in self.gpu.memory

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert self.memory
        assert self.profile == 0
        assert self.addresses.keys() == self.engine.tensors.keys(), "some tensors have no address"
        capturing = stream_handle in self.gpu.captures
        if capturing and (not self.ready or self.engine.trt.refuses_capture):
            self.engine.logger.log(Severity.ERROR, "operation not permitted\nwhen stream is capturing")
            return False
        self.ready = True
        self.gpu.calls.append("execute_async_v3")
        self.gpu.enqueue(stream_handle, functools.partial(self._compute, self.batch, dict(self.addresses)))
        return True

    def _compute(self, batch: int, addresses: dict[str, int]) -> None:
        assert self.memory == -1 or self.memory in self.gpu.memory
        _, side, _, _ = self.engine.get_tensor_shape("frames")
        given = self.gpu.memory[addresses["frames"]][: batch * side * side * 3]
        made = self.engine.session.run(self.engine.outputs, {"frames": given.reshape(batch, side, side, 3).copy()})
        for name, values in zip(self.engine.outputs, made, strict=True):
            self.gpu.memory[addresses[name]][: values.nbytes] = values.view(np.uint8).ravel()


class EngineInspector:
    execution_context: IExecutionContext | None = None

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine

    def get_engine_information(self, format: Any) -> str:  # noqa: A002 - as theirs
        known = self.execution_context is not None and self.execution_context.batch and self._engine.trt.tells_types
        texts = {DataType.FLOAT: "Float", DataType.HALF: "Half", DataType.UINT8: "UInt8", DataType.INT64: "Int64"}

        def tensor(layer: Any, dtype: DataType) -> dict[str, Any]:
            text = "Float" if layer.name in self._engine.document["float32"] else texts[dtype]
            return {"Name": "x", "Format/Datatype": text if known else "N/A due to dynamic shapes"}

        layers = [
            {
                "Name": f"{layer.name} + after_{layer.name}",
                "LayerType": "CaskConvolution",
                "Inputs": [tensor(layer, layer.get_input(0).dtype)],
                "Outputs": [tensor(layer, layer.get_output(0).dtype)],
                "Metadata": f"[ONNX Layer: {layer.name}]",
            }
            for layer in layers_of(self._engine.model)[1:]
        ]
        return json.dumps({"Layers": layers, "Bindings": list(self._engine.tensors)})


FAKES = {
    "Builder": Builder,
    "IBuilderConfig": IBuilderConfig,
    "ITimingCache": ITimingCache,
    "IOptimizationProfile": IOptimizationProfile,
    "INetworkDefinition": INetworkDefinition,
    "OnnxParser": OnnxParser,
    "Runtime": Runtime,
    "ICudaEngine": ICudaEngine,
    "IExecutionContext": IExecutionContext,
    "EngineInspector": EngineInspector,
    "ILogger": ILogger,
    "IProgressMonitor": IProgressMonitor,
}


@contextmanager
def installed(trt: TensorRt) -> Iterator[None]:
    """In the block `import tensorrt` gives `trt`, and CUDA is its GPU's."""
    import sys

    from quarterturn.worker.engine import cuda

    ours = ("quarterturn.worker.engine.tensorrt", "quarterturn.engine_build.tensorrt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tensorrt", trt)
        patch.setattr(cuda, "cudart", trt.gpu)
        try:
            yield
        finally:
            for name in ours:
                sys.modules.pop(name, None)
