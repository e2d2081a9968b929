"""The OpenVINO engine, the default on a CPU. It loads the ONNX graph as the engine folder holds it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.errors import ConfigError, DataError, MismatchError
from quarterturn.worker.contract.manifest import EmbeddingSpec, Precision
from quarterturn.worker.engine.base import EngineFolder, Tensors, check_tensors, embed_in_runs

try:
    import openvino
    from openvino.properties import hint, inference_num_threads
except ModuleNotFoundError as error:
    raise ConfigError("target 'openvino' needs a package; run: pip install 'quarterturn[openvino]'") from error

_TYPES: dict[Precision, Any] = {
    "float32": openvino.Type.f32,
    "float16": openvino.Type.f16,
    "bfloat16": openvino.Type.bf16,
}


def native_precision() -> Precision:
    """The type in which OpenVINO computes on this CPU when nobody says otherwise: the fastest."""
    found = openvino.Core().get_property("CPU", hint.inference_precision)
    return next((name for name, kind in _TYPES.items() if kind == found), "float32")


class OpenVinoEngine:
    """Embeds frames with OpenVINO on the CPU, with `threads` threads (None: all cores). See `Engine`.

    Raises:
        DataError: this OpenVINO cannot load the graph.
        MismatchError: the graph is not what the manifest says, or this CPU does not compute in the engine's precision.
    """

    def __init__(self, folder: EngineFolder, threads: int | None = None) -> None:
        self.spec = folder.manifest.spec
        self.hash = folder.hash
        self.target = folder.target
        model = _compile(folder, threads)
        check_tensors(_tensors(model, self.spec), folder)
        self._request: Any = model.create_infer_request()

    def embed(self, frames: npt.NDArray[np.uint8]) -> Embeddings:
        """(B, S, S, 3) uint8 RGB -> all of `spec.outputs`: float32 (B, ...), copies that the caller keeps.

        Raises:
            ValueError: the frames have another shape or dtype.
        """
        return embed_in_runs(frames, self.spec, self._run)

    def close(self) -> None:
        """Free the runtime's memory; may be called twice."""
        self._request = None

    def _run(self, frames: npt.NDArray[np.uint8]) -> Embeddings:
        """Views into the request's memory, which the next run reuses."""
        found = self._request.infer([frames], share_inputs=True, share_outputs=True)
        return {name: found[name] for name in self.spec.outputs}


def _compile(folder: EngineFolder, threads: int | None) -> Any:
    path, precision = folder.files[0], folder.manifest.targets[folder.target].precision
    settings = {
        hint.performance_mode: hint.PerformanceMode.LATENCY,  # all threads on one run
        # Without this hint the CPU decides, and a bank would not fit every worker.
        hint.inference_precision: _TYPES[precision],
        # With it, the threads of two workers on one machine are pinned to the same cores: half the speed for both.
        hint.enable_cpu_pinning: False,
    }
    if threads is not None:
        settings[inference_num_threads] = threads
    try:
        model = openvino.Core().compile_model(path, "CPU", settings)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataError(
            f"{path}: OpenVINO {openvino.__version__} cannot load it ({reason}); build the engine on this machine"
        ) from error
    found = model.get_property(hint.inference_precision)
    if found != _TYPES[precision]:
        raise MismatchError(
            f"target 'openvino': the engine computes in {precision}, but this CPU in {found.to_string()}; "
            "build it on this machine, or with precision.openvino=float32"
        )
    return model


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
