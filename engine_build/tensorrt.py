"""The TensorRT target: a plan, compiled on the device that runs it.

The network is strongly typed: its types are the graph's, so one way of building serves TensorRT 10.3 to 11. What the
plan makes of them is looked up afterwards, in what the engine inspector says of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quarterturn.engine_build.config import TensorRtSettings
from quarterturn.engine_build.layers import in_float32, read_layers
from quarterturn.engine_build.source import Source
from quarterturn.engine_build.target import TargetFiles
from quarterturn.worker.contract.errors import DataError, MismatchError
from quarterturn.worker.contract.manifest import Precision
from quarterturn.worker.engine import cuda
from quarterturn.worker.engine.base import EngineFolder
from quarterturn.worker.engine.tensorrt import LOG, TensorRtEngine, describe, load_plan, trt

log = logging.getLogger(__name__)


class TensorRtTarget:
    """Builds plans as `settings` say.

    Args:
        settings: the profile, the workspace and the effort.
        previous: the engine folder that is replaced; its timing cache saves the time to measure kernels again.
        tell: called with a line of progress, some times a second.

    Raises:
        ConfigError: TensorRT or cuda-bindings is not installed.
    """

    def __init__(self, settings: TensorRtSettings, previous: Path, tell: Callable[[str], object]) -> None:
        self._settings = settings
        self._previous = previous
        self._tell = tell

    def fastest(self) -> Precision:
        """What every GPU of the last ten years computes fastest in."""
        return "float16"

    def write(self, source: Source, folder: Path, precision: Precision) -> TargetFiles:
        """Put the plan into `folder`, beside its graph and the timing cache, with which it can be built again.

        Raises:
            DataError: TensorRT cannot read the graph or build it.
            DeviceError: there is no GPU, or it failed.
            MismatchError: a layer was meant to run in float16 and runs in float32.
        """
        device = cuda.open_device()
        graph = folder / source.write_graph(folder, "float32" if precision == "float32" else "float16")
        plan = folder / f"model.{precision}.plan"
        started_s = time.monotonic()
        meant = self._compile(graph, plan, source.spec.side)
        build_s = time.monotonic() - started_s
        details = {**describe(device), **self._details(), "build_seconds": round(build_s, 1)}
        if precision == "float16":
            details["float16_layers"] = self._inspect(plan, meant, source.spec.side)
        return TargetFiles((plan.name,), details)

    def open_engine(self, folder: EngineFolder) -> TensorRtEngine:
        """The engine as the worker opens it."""
        return TensorRtEngine(folder)

    def _details(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "profile": {"min": 1, "opt": settings.opt_frames, "max": settings.max_frames},
            "workspace_mb": settings.workspace_mb,
            "optimisation_level": settings.optimisation_level,
        }

    def _compile(self, graph: Path, plan: Path, side: int) -> set[str]:
        """Build `plan`; returns the names of the layers that take and give float16."""
        builder: trt.Builder = trt.Builder(LOG)
        strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)  # the number differs by version
        network: trt.INetworkDefinition = builder.create_network(strongly_typed)
        parser: trt.OnnxParser = trt.OnnxParser(network, LOG)
        if not parser.parse_from_file(str(graph)):
            raise DataError(f"{graph.name}: TensorRT {trt.__version__} cannot read it ({_faults(parser)}); update it")
        config: trt.IBuilderConfig = self._config(builder, side)
        cache = graph.with_name(f"timing.{trt.__version__}.cache")
        self._use_timings(config, cache.name)
        progress = _Progress(self._tell)
        config.progress_monitor = progress
        built: trt.IHostMemory | None = builder.build_serialized_network(network, config)
        if progress.cancelled:
            raise KeyboardInterrupt
        if built is None:
            raise DataError(
                f"{graph.name}: TensorRT {trt.__version__} cannot build it ({LOG.fault}); "
                "free memory of the GPU, or change tensorrt.workspace_mb or tensorrt.max_frames"
            )
        plan.write_bytes(built)
        timings: trt.ITimingCache = config.get_timing_cache()
        cache.write_bytes(timings.serialize())
        return _float16_layers(network)

    def _config(self, builder: trt.Builder, side: int) -> trt.IBuilderConfig:
        settings = self._settings
        profile: trt.IOptimizationProfile = builder.create_optimization_profile()
        least, best, most = ((frames, side, side, 3) for frames in (1, settings.opt_frames, settings.max_frames))
        profile.set_shape("frames", min=least, opt=best, max=most)
        config: trt.IBuilderConfig = builder.create_builder_config()
        config.add_optimization_profile(profile)
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mb * 2**20)
        config.builder_optimization_level = settings.optimisation_level
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the inspector tells no types
        config.clear_flag(trt.BuilderFlag.TF32)  # float32 means it
        return config

    def _use_timings(self, config: trt.IBuilderConfig, name: str) -> None:
        """Start from the timings of the build before, if it was for this GPU, too."""
        known = self._previous / name
        for timings in (known.read_bytes() if known.is_file() else b"", b""):
            cache: trt.ITimingCache | None = config.create_timing_cache(timings)
            if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
                return

    def _inspect(self, plan: Path, meant: set[str], side: int) -> int:
        """How many layers of the plan handle float16.

        Raises:
            MismatchError: one that was meant to handles float32 alone.
        """
        runtime, engine = load_plan(plan)
        layers = read_layers(_inspected(engine, (self._settings.opt_frames, side, side, 3)))
        del engine, runtime
        wrong = in_float32(layers, meant)
        if wrong:
            raise MismatchError(
                f"target 'tensorrt': {len(wrong)} layers were meant to run in float16, but run in float32 "
                f"({', '.join(wrong[:3])}), so no engine was written; take a newer TensorRT, or "
                "precision.tensorrt = float32"
            )
        found = sum("float16" in layer.types for layer in layers)
        if not found:
            log.warning("TensorRT's inspector tells no types, so whether the plan runs in float16 is not known")
        return found


class _Progress(trt.IProgressMonitor):  # type: ignore[misc]
    """Tells of the innermost phase; TensorRT calls it from any thread, and must never see an exception."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        trt.IProgressMonitor.__init__(self)
        self._tell = tell
        self._steps: dict[str, int] = {}
        self.cancelled = False

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """A phase of `num_steps` steps begins."""
        self._steps[phase_name] = num_steps

    def step_complete(self, phase_name: str, step: int) -> bool:
        """A step is done; returns whether to go on."""
        try:
            self._tell(f"building tensorrt: {phase_name}, {step + 1} of {self._steps.get(phase_name, 0)}")
        except KeyboardInterrupt:
            self.cancelled = True
        return not self.cancelled

    def phase_finish(self, phase_name: str) -> None:
        """The phase ends."""


def _faults(parser: trt.OnnxParser) -> str:
    errors: list[trt.ParserError] = [parser.get_error(number) for number in range(parser.num_errors)]
    return "; ".join(" ".join(error.desc().split()) for error in errors) or LOG.fault


def _float16_layers(network: trt.INetworkDefinition) -> set[str]:
    """The layers whose first input and output are float16: not the casts where it begins and ends."""
    names = set()
    for number in range(network.num_layers):
        layer: trt.ILayer = network.get_layer(number)
        if layer.num_inputs:
            given, made = layer.get_input(0), layer.get_output(0)
            if given is not None and given.dtype == made.dtype == trt.DataType.HALF:
                names.add(layer.name)
    return names


def _inspected(engine: trt.ICudaEngine, shape: tuple[int, ...]) -> str:
    """The inspector's JSON for batches of this shape; without one it tells no types."""
    context: trt.IExecutionContext = engine.create_execution_context()
    context.set_input_shape("frames", shape)
    inspector: trt.EngineInspector = engine.create_engine_inspector()
    inspector.execution_context = context
    text: str = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return text
