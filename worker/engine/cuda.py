"""CUDA's runtime, as little of it as an engine needs: one device, streams, buffers and graphs.

The calls return `(error, values…)` and never raise; here every error becomes a `DeviceError`. Of freed things errors
are logged only: after a fault of the device nothing can be freed, and that fault is what the user must see.
"""

from __future__ import annotations

import ctypes
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.errors import ConfigError, DeviceError

try:
    from cuda.bindings import runtime as cudart
except ModuleNotFoundError as error:
    raise ConfigError("target 'tensorrt' needs a package; run: pip install 'quarterturn[tensorrt]'") from error

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """A GPU: its name, its compute capability such as "8.7", and whether it shares its memory with the CPU."""

    name: str
    capability: str
    integrated: bool


def open_device() -> Device:
    """The first GPU that this process sees, made the calling thread's.

    Raises:
        DeviceError: there is none, or its driver is too old.
    """
    _check("open a GPU", cudart.cudaSetDevice(0), "install its driver, and start a container with its GPU")
    properties: cudart.cudaDeviceProp = _check("describe the GPU", cudart.cudaGetDeviceProperties(0))
    name: bytes = properties.name
    capability = f"{properties.major}.{properties.minor}"
    return Device(name.decode(), capability, bool(properties.integrated))


class Stream:
    """Work in the order in which it was enqueued."""

    def __init__(self) -> None:
        self._handle = _check("create a stream", cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking))

    @property
    def address(self) -> int:
        """What TensorRT calls the stream's handle."""
        return int(self._handle)

    def synchronise(self) -> None:
        """Return when all enqueued work is done.

        Raises:
            DeviceError: some of it failed.
        """
        _check("finish the work", cudart.cudaStreamSynchronize(self._handle))

    def copy_in(self, buffer: Buffer, count: int) -> None:
        """Enqueue the copy of the first `count` rows of `buffer` to the device; nothing where the memory is shared."""
        self._copy(buffer.device, buffer.host.ctypes.data, buffer, count, cudart.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def copy_out(self, buffer: Buffer, count: int) -> None:
        """Enqueue the copy of the first `count` rows of `buffer` to the host; nothing where the memory is shared."""
        self._copy(buffer.host.ctypes.data, buffer.device, buffer, count, cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost)

    def _copy(self, to: int, origin: int, buffer: Buffer, count: int, kind: Any) -> None:
        if not buffer.shared:
            _check("copy", cudart.cudaMemcpyAsync(to, origin, count * buffer.row_bytes, kind, self._handle))

    @contextmanager
    def capture(self) -> Iterator[Graph]:
        """What is enqueued in the block becomes the graph, instead of being done.

        Raises:
            DeviceError: something in it cannot be captured; the stream can be used as before.
        """
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _check("begin a graph", cudart.cudaStreamBeginCapture(self._handle, mode))
        graph = Graph(self._handle)
        try:
            yield graph
        except BaseException:
            error, captured = cudart.cudaStreamEndCapture(self._handle)
            if error == cudart.cudaError_t.cudaSuccess:
                _release("a graph", cudart.cudaGraphDestroy(captured))
            cudart.cudaGetLastError()  # forgets the error, which TensorRT would take for its own
            raise
        graph.instantiate(_check("end a graph", cudart.cudaStreamEndCapture(self._handle)))

    def close(self) -> None:
        """Free the stream."""
        _release("a stream", cudart.cudaStreamDestroy(self._handle))


class Graph:
    """Captured work of one stream, which is launched with one call."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._executable: Any = None

    def instantiate(self, captured: Any) -> None:
        """Make `captured` ready for its stream; it is freed."""
        try:
            self._executable = _check("instantiate a graph", cudart.cudaGraphInstantiate(captured, 0))
        finally:
            _release("a graph", cudart.cudaGraphDestroy(captured))

    def launch(self) -> None:
        """Enqueue the captured work."""
        _check("launch a graph", cudart.cudaGraphLaunch(self._executable, self._stream))

    def close(self) -> None:
        """Free the graph."""
        _release("a graph", cudart.cudaGraphExecDestroy(self._executable))


class Buffer:
    """Pinned memory of the host as an array, and as much memory of the device; with `shared` both are the same.

    `host` is a view into memory that `close` frees.
    """

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike, shared: bool) -> None:
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        self.shared = shared
        self.row_bytes = size // shape[0]
        flags = cudart.cudaHostAllocMapped if shared else cudart.cudaHostAllocDefault
        self._pinned = _check(f"pin {size} bytes", cudart.cudaHostAlloc(size, flags))
        try:
            if shared:
                self.device = int(_check("map memory", cudart.cudaHostGetDevicePointer(self._pinned, 0)))
            else:
                self.device = allocate(size)
        except DeviceError:
            _release("pinned memory", cudart.cudaFreeHost(self._pinned))
            raise
        memory = memoryview((ctypes.c_uint8 * size).from_address(int(self._pinned)))
        self.host: npt.NDArray[Any] = np.frombuffer(memory, kind).reshape(shape)

    def close(self) -> None:
        """Free both."""
        if not self.shared:
            free(self.device)
        _release("pinned memory", cudart.cudaFreeHost(self._pinned))


def allocate(size: int) -> int:
    """The address of `size` bytes of the device's memory.

    Raises:
        DeviceError: there is not that much.
    """
    return int(_check(f"allocate {size} bytes", cudart.cudaMalloc(size)))


def free(address: int) -> None:
    """Free what `allocate` gave."""
    _release("memory", cudart.cudaFree(address))


def _check(
    what: str, returned: tuple[Any, ...], advice: str = "start again, and look after the GPU if it recurs"
) -> Any:
    """The value of a call, if it has one."""
    error, *values = returned
    if error != cudart.cudaError_t.cudaSuccess:
        raise DeviceError(f"CUDA cannot {what}: {_text(error)}; {advice}")
    return values[0] if values else None


def _release(what: str, returned: tuple[Any, ...]) -> None:
    (error,) = returned
    if error != cudart.cudaError_t.cudaSuccess:
        log.warning("CUDA cannot free %s: %s", what, _text(error))


def _text(error: Any) -> str:
    _, text = cudart.cudaGetErrorString(error)
    return f"{text.decode()} ({error.name})"
