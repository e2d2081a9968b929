"""The ONNX Runtime engine: the portable reference, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.errors import ConfigError, DataError
from quarterturn.worker.engine.base import EngineFolder, Tensors, check_tensors, embed_in_runs

try:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as faults
except ModuleNotFoundError as error:
    raise ConfigError("target 'onnxruntime' needs a package; run: pip install 'quarterturn[onnx]'") from error

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class OnnxRuntimeEngine:
    """Embeds frames with ONNX Runtime on the CPU, with `threads` threads (None: all cores). See `Engine`.

    Raises:
        DataError: this ONNX Runtime cannot load the graph.
        MismatchError: the graph is not what the manifest says.
    """

    def __init__(self, folder: EngineFolder, threads: int | None = None) -> None:
        self.spec = folder.manifest.spec
        self.hash = folder.hash
        self.target = folder.target
        session = _load(folder, threads)
        check_tensors(_tensors(session), folder)
        self._session: Any = session

    def embed(self, frames: npt.NDArray[np.uint8]) -> Embeddings:
        """(B, S, S, 3) uint8 RGB -> all of `spec.outputs`: float32 (B, ...), copies that the caller keeps.

        Raises:
            ValueError: the frames have another shape or dtype.
        """
        return embed_in_runs(frames, self.spec, self._run)

    def close(self) -> None:
        """Free the runtime's memory; may be called twice."""
        self._session = None

    def _run(self, frames: npt.NDArray[np.uint8]) -> Embeddings:
        names = list(self.spec.outputs)
        return dict(zip(names, self._session.run(names, {"frames": frames}), strict=True))


def _load(folder: EngineFolder, threads: int | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: all cores
    try:
        return onnxruntime.InferenceSession(folder.files[0], options, providers=["CPUExecutionProvider"])
    except (faults.Fail, faults.InvalidGraph, faults.InvalidProtobuf, faults.NotImplemented) as error:
        raise DataError(
            f"{folder.files[0]}: ONNX Runtime {onnxruntime.__version__} cannot load it ({error}); "
            "build the engine on this machine"
        ) from error


def _tensors(session: Any) -> Tensors:
    return {
        tensor.name: (
            _DTYPES.get(tensor.type, tensor.type),
            tuple(size if isinstance(size, int) else -1 for size in tensor.shape),
        )
        for tensor in (*session.get_inputs(), *session.get_outputs())
    }
