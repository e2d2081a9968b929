"""The OpenVINO engine, the default on a CPU. It loads the ONNX graph as the engine folder holds it."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.embeddings import FRAME, Embeddings
from quarterturn.worker.contract.errors import ConfigError, DataError, MismatchError
from quarterturn.worker.contract.manifest import EmbeddingSpec, Precision
from quarterturn.worker.contract.views import turn_back, turned
from quarterturn.worker.engine.base import (
    EngineFolder,
    Tensors,
    check_frames,
    check_tensors,
    empty_embeddings,
)

try:
    import openvino
    from openvino.properties import hint, inference_num_threads, num_streams
except ModuleNotFoundError as error:
    raise ConfigError("target 'openvino' needs a package; run: pip install 'quarterturn[openvino]'") from error

_WAITING = 2  # views: the next ones start while the embeddings of the last are copied

_TYPES: dict[Precision, Any] = {
    "float32": openvino.Type.f32,
    "float16": openvino.Type.f16,
    "bfloat16": openvino.Type.bf16,
}


@cache
def core() -> Any:
    """OpenVINO, once for the whole process and never let go.

    Its CPU plugin gives the thread that loads it another stack for signals, and takes that away as it goes. Of two that
    go in the order in which they came, the second brings back the first one's stack, which is no more: the next signal,
    such as SIGTERM to a worker, would end the process without a word.
    """
    return openvino.Core()


def native_precision() -> Precision:
    """The type in which OpenVINO computes on this CPU when nobody says otherwise: the fastest."""
    found = core().get_property("CPU", hint.inference_precision)
    return next((name for name, kind in _TYPES.items() if kind == found), "float32")


def available_threads() -> int:
    """How many threads can run at once in this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class OpenVinoEngine:
    """Embeds frames with OpenVINO on the CPU, with `threads` threads (None: all cores). See `Engine`.

    The graph is of one view, so that its memory is that of one: frames are turned before it, and grids turned back as
    they are copied out. As many views as the manifest's `streams` are embedded side by side; those that are too few for
    that go one by one, with all threads each.

    Raises:
        DataError: this OpenVINO cannot load the graph.
        MismatchError: the graph is not what the manifest says, or this CPU does not compute in the engine's precision.
    """

    def __init__(self, folder: EngineFolder, threads: int | None = None) -> None:
        self.spec = folder.manifest.spec
        self.hash = folder.hash
        self.target = folder.target
        threads = threads or available_threads()
        model = _read(folder)
        check_tensors(_tensors(model, self.spec), folder, self.spec.of_one_view)
        # Of one frame a run: shapes that are known beforehand take a third of the memory, and less time.
        model.reshape([1, self.spec.side, self.spec.side, 3])
        self._places = {_name(port, self.spec): place for place, port in enumerate(model.outputs)}
        self._streams = min(threads, folder.manifest.targets[folder.target].streams)
        self._abreast = _compile(model, folder, threads, self._streams)
        # A frame with fewer views than streams would leave threads idle.
        self._alone = _compile(model, folder, threads, 1) if self._streams > self.spec.views else []

    def embed(self, frames: npt.NDArray[np.uint8]) -> Embeddings:
        """(B, S, S, 3) uint8 RGB -> all of `spec.outputs`: float32 (B, ...), copies that the caller keeps.

        Raises:
            ValueError: the frames have another shape or dtype.
        """
        check_frames(frames, self.spec)
        embeddings = empty_embeddings(len(frames), self.spec)
        running: deque[_Run] = deque()
        views = itertools.product(range(len(frames)), range(self.spec.views))
        for (n, view), request in zip(views, self._turns(len(frames)), strict=True):
            while any(one.request is request for one in running):
                running.popleft().put(embeddings, self._places)
            one = _Run(request, turned(frames[n], view)[np.newaxis], n, view)
            request.start_async([one.picture], share_inputs=True)
            running.append(one)
        while running:
            running.popleft().put(embeddings, self._places)
        return embeddings

    def close(self) -> None:
        """Free the runtime's memory; may be called twice."""
        self._alone, self._abreast = [], []

    def _turns(self, count: int) -> Iterator[Any]:
        """The request for each view of so many frames: one after the other, and others for what is left over."""
        views = count * self.spec.views
        left = views % self._streams if self._alone else 0
        yield from itertools.islice(itertools.cycle(self._abreast), views - left)
        yield from itertools.islice(itertools.cycle(self._alone), left)


@dataclass(frozen=True, slots=True)
class _Run:
    """A request that embeds view `view` of frame `n`: the `picture` (1, S, S, 3), which has to be kept until then."""

    request: Any
    picture: npt.NDArray[np.uint8]
    n: int
    view: int

    def put(self, embeddings: Embeddings, places: Mapping[str, int]) -> None:
        """Wait for it, and copy what it found to its place; `places` are those of the graph's outputs."""
        self.request.wait()
        for name, values in embeddings.items():
            found = self.request.get_output_tensor(places[name]).data[0, 0]
            if name == FRAME:
                values[self.n, self.view] = found
            else:
                side = isqrt(len(found))
                grid = values[self.n, self.view].reshape(side, side, -1)
                grid[:] = turn_back(found.reshape(grid.shape), self.view)


def _read(folder: EngineFolder) -> Any:
    path = folder.files[0]
    try:
        return core().read_model(path)
    except RuntimeError as error:
        raise _refused(path, error) from error


def _compile(model: Any, folder: EngineFolder, threads: int, streams: int) -> list[Any]:
    """The requests of a model that is compiled for so many streams: some more than these, so that none has to wait."""
    precision = folder.manifest.targets[folder.target].precision
    settings = {
        num_streams: streams,
        inference_num_threads: threads,
        # Without this hint the CPU decides, and a bank would not fit every worker.
        hint.inference_precision: _TYPES[precision],
        # With it, the threads of two workers on one machine are pinned to the same cores: half the speed for both.
        hint.enable_cpu_pinning: False,
    }
    try:
        compiled = core().compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise _refused(folder.files[0], error) from error
    found = compiled.get_property(hint.inference_precision)
    if found != _TYPES[precision]:
        raise MismatchError(
            f"target 'openvino': the engine computes in {precision}, but this CPU in {found.to_string()}; "
            "build it on this machine, or with precision.openvino=float32"
        )
    return [compiled.create_infer_request() for _ in range(streams + _WAITING)]


def _refused(path: Path, error: RuntimeError) -> DataError:
    reason = str(error).strip().splitlines()[-1]
    return DataError(
        f"{path}: OpenVINO {openvino.__version__} cannot load it ({reason}); build the engine on this machine"
    )


def _tensors(model: Any, spec: EmbeddingSpec) -> Tensors:
    return {
        _name(port, spec): (
            port.element_type.to_dtype().name,
            tuple(-1 if size.is_dynamic else size.get_length() for size in port.partial_shape),
        )
        for port in (*model.inputs, *model.outputs)
    }


def _name(port: Any, spec: EmbeddingSpec) -> str:
    """The spec's name for it: an output keeps the names of what OpenVINO took away before it, too."""
    name: str = next((name for name in spec.outputs if name in port.names), port.any_name)
    return name
