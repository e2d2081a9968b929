"""The TensorRT engine, for NVIDIA GPUs and Jetson. It loads a plan that was built on the device that runs it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.errors import ConfigError, DataError, DeviceError, MismatchError
from quarterturn.worker.contract.manifest import EmbeddingSpec
from quarterturn.worker.engine import cuda
from quarterturn.worker.engine.base import EngineFolder, Tensors, check_frames, check_tensors, empty_embeddings, put

try:
    import tensorrt as trt
except ImportError as error:  # also where its libraries are missing
    raise ConfigError(
        f"target 'tensorrt' needs NVIDIA's package 'tensorrt' ({error}); "
        "it comes with JetPack or from NVIDIA's index, see docs/engines.md"
    ) from error

# The builder takes `trt` from here, too: a vendor's package is imported in one file.
__all__ = ["LOG", "TensorRtEngine", "describe", "load_plan", "trt"]

log = logging.getLogger(__name__)

_DTYPES = {trt.DataType.UINT8: "uint8", trt.DataType.FLOAT: "float32"}


class _Log(trt.ILogger):  # type: ignore[misc]
    """TensorRT's messages go to our log; the last error is kept for the sentence that the user sees."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.fault = "it gave no reason"

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Called by TensorRT, from any thread."""
        if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
            self.fault = " ".join(msg.split())
        loud = severity not in (trt.ILogger.Severity.INFO, trt.ILogger.Severity.VERBOSE)
        log.log(logging.WARNING if loud else logging.DEBUG, "TensorRT: %s", msg)


LOG = _Log()
"""The one logger of this process: TensorRT keeps the first that it is given."""


def describe(device: cuda.Device) -> dict[str, str]:
    """What a plan is bound to, as the manifest records it."""
    return {"tensorrt": trt.__version__, "gpu": device.name, "compute_capability": device.capability}


def load_plan(path: Path) -> tuple[trt.Runtime, trt.ICudaEngine]:
    """The plan at `path`, and the runtime that must live as long.

    Raises:
        DataError: this TensorRT cannot load it.
    """
    runtime: trt.Runtime = trt.Runtime(LOG)
    engine: trt.ICudaEngine | None = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise DataError(f"{path}: TensorRT {trt.__version__} cannot load it ({LOG.fault}); {_rebuild(path.parent)}")
    return runtime, engine


class TensorRtEngine:
    """Embeds frames with TensorRT on the first GPU that the process sees. See `Engine`.

    Batches beyond the plan's largest are split. Two lanes take turns, so that one copies while the other computes;
    a GPU that shares its memory with the CPU reads and writes the host's memory instead.

    Raises:
        DataError: this TensorRT cannot load the plan.
        DeviceError: there is no GPU, or it failed.
        MismatchError: the plan is not what the manifest says, or it was built for another device or TensorRT.
    """

    def __init__(self, folder: EngineFolder) -> None:
        self.spec = folder.manifest.spec
        self.hash = folder.hash
        self.target = folder.target
        device = cuda.open_device()
        _check_device(folder, device)
        self._plan: tuple[trt.Runtime, trt.ICudaEngine] | None = load_plan(folder.files[0])
        engine: trt.ICudaEngine = self._plan[1]
        check_tensors(_tensors(engine), folder)
        self._most = int(engine.get_tensor_profile_shape("frames", 0)[2][0])
        with ExitStack() as stack:
            self._lanes = [
                stack.enter_context(closing(_Lane(engine, self.spec, self._most, device.integrated))) for _ in range(2)
            ]
            self._open = stack.pop_all()

    def embed(self, frames: npt.NDArray[np.uint8]) -> Embeddings:
        """(B, S, S, 3) uint8 RGB -> all of `spec.outputs`: float32 (B, ...), copies that the caller keeps.

        Raises:
            DeviceError: the GPU failed; the engine cannot be used any more.
            ValueError: the frames have another shape or dtype.
        """
        check_frames(frames, self.spec)
        embeddings = empty_embeddings(len(frames), self.spec)
        parts = [slice(start, start + self._most) for start in range(0, len(frames), self._most)]
        turns = zip(cycle(self._lanes), [None, None, *parts], [*parts, None, None], strict=False)
        for lane, finished, part in turns:
            if finished is not None:
                put(embeddings, finished, lane.take())
            if part is not None:
                lane.start(frames[part])
        return embeddings

    def close(self) -> None:
        """Free the runtime's memory; may be called twice."""
        self._open.close()
        self._plan = None


class _Lane:
    """A stream, and memory for the frames and the outputs of the largest batch.

    A batch size is prepared when it first comes. All share the plan's working memory, which is safe in one stream.
    """

    def __init__(self, engine: trt.ICudaEngine, spec: EmbeddingSpec, most: int, shared: bool) -> None:
        self._engine: trt.ICudaEngine = engine
        self._contexts: list[trt.IExecutionContext] = []
        self._batches: dict[int, Callable[[], None]] = {}
        self._count = 0
        self._scratch_bytes = max(1, engine.device_memory_size_v2)
        with ExitStack() as stack:
            self._stream = stack.enter_context(closing(cuda.Stream()))
            frames = (most, spec.side, spec.side, 3)
            self._frames = stack.enter_context(closing(cuda.Buffer(frames, np.uint8, shared)))
            self._outputs = {
                name: stack.enter_context(closing(cuda.Buffer((most, *shape), np.float32, shared)))
                for name, shape in spec.outputs.items()
            }
            self._scratch = cuda.allocate(self._scratch_bytes)
            stack.callback(cuda.free, self._scratch)
            stack.callback(self._contexts.clear)  # before the memory that they work in
            self._open = stack.pop_all()

    def start(self, frames: npt.NDArray[np.uint8]) -> None:
        """Enqueue a batch; the one before it must have been taken."""
        self._count = len(frames)
        self._frames.host[: self._count] = frames
        if self._count not in self._batches:
            self._batches[self._count] = self._prepare(self._count)
        self._batches[self._count]()

    def take(self) -> Embeddings:
        """Wait for the batch; returns views into buffers that the next one reuses."""
        self._stream.synchronise()
        return {name: buffer.host[: self._count] for name, buffer in self._outputs.items()}

    def close(self) -> None:
        """Free the graphs, then the contexts, then the memory."""
        self._batches.clear()
        self._open.close()
        del self._engine

    def _prepare(self, count: int) -> Callable[[], None]:
        """What enqueues a batch of `count` frames: one CUDA graph, or its calls where they cannot be captured."""
        context = self._context(count)
        enqueue = partial(self._enqueue, context, count)
        enqueue()  # the first time TensorRT sets itself up, which cannot be captured
        self._stream.synchronise()
        try:
            with self._stream.capture() as graph:
                enqueue()
        except DeviceError as error:
            log.warning("batches of %d frames run without a CUDA graph: %s", count, error)
            return enqueue
        self._open.callback(graph.close)
        return graph.launch

    def _context(self, count: int) -> trt.IExecutionContext:
        context: trt.IExecutionContext | None = self._engine.create_execution_context(
            strategy=trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        if context is None:
            raise DeviceError(f"TensorRT cannot prepare batches of {count} frames: {LOG.fault}")
        self._contexts.append(context)
        context.set_device_memory(self._scratch, self._scratch_bytes)
        _must(context.set_optimization_profile_async(0, self._stream.address), "select the profile")
        _must(context.set_input_shape("frames", (count, *self._frames.host.shape[1:])), "set the batch size")
        for name, buffer in {"frames": self._frames, **self._outputs}.items():
            _must(context.set_tensor_address(name, buffer.device), f"bind {name}")
        return context

    def _enqueue(self, context: trt.IExecutionContext, count: int) -> None:
        self._stream.copy_in(self._frames, count)
        _must(context.execute_async_v3(self._stream.address), "run the plan")
        for buffer in self._outputs.values():
            self._stream.copy_out(buffer, count)


def _must(done: bool, what: str) -> None:
    if not done:
        raise DeviceError(f"TensorRT cannot {what}: {LOG.fault}")


def _check_device(folder: EngineFolder, device: cuda.Device) -> None:
    """Refuse a plan of another device or TensorRT: where it loads at all, it may be slow or wrong."""
    here, details = describe(device), folder.manifest.targets[folder.target].details
    there = {name: details.get(name, "unknown") for name in here}
    if there != here:
        raise MismatchError(
            f"{folder.files[0]}: was built for {_text(there)}, but here is {_text(here)}; {_rebuild(folder.path)}"
        )


def _text(described: dict[str, str]) -> str:
    return "TensorRT {tensorrt} on {gpu} of compute capability {compute_capability}".format(**described)


def _rebuild(folder: Path) -> str:
    return f"build it on this device: quarterturn build --target tensorrt --set model={folder} --set out={folder}"


def _tensors(engine: trt.ICudaEngine) -> Tensors:
    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    return {
        name: (
            _DTYPES.get(engine.get_tensor_dtype(name), str(engine.get_tensor_dtype(name))),
            tuple(engine.get_tensor_shape(name)),
        )
        for name in names
    }
