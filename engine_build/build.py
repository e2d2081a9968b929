"""Build an engine: a trained model made ready for one or more runtimes, each proven on golden frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from quarterturn.engine_build.config import BuildSettings
from quarterturn.engine_build.golden import NEEDED, Golden, parity, render_frames
from quarterturn.engine_build.source import ExportedGraphs, Source, is_engine
from quarterturn.engine_build.target import Target
from quarterturn.worker.contract.errors import ConfigError, MismatchError
from quarterturn.worker.contract.manifest import (
    EmbeddingSpec,
    EngineManifest,
    Precision,
    TargetManifest,
    TargetName,
    hash_files,
    write_manifest,
)
from quarterturn.worker.contract.swap import replacing
from quarterturn.worker.contract.times import now
from quarterturn.worker.engine.base import EngineFolder
from quarterturn.worker.pictures.read import read_frames
from quarterturn.worker.pictures.sets import list_pictures

_CLEARLY = 1.1  # times as fast: less may be chance
_RUNS = 3


def build(settings: BuildSettings, progress: bool = True) -> Path:
    """Build the engine folder `settings.out` from the model or engine folder `settings.model`; returns its path.

    The folder appears whole or not at all, and only when every target reproduces the golden embeddings.

    Raises:
        ConfigError: the package of a target is not installed, or torch for a model, or a setting asks for what an
            engine folder cannot give.
        DataError: the model or a picture is missing or damaged, or `out` holds something that is no engine.
        MismatchError: a target's embeddings differ from torch's; the text prints the cosine found and the one needed.
    """
    console = Console(stderr=True, quiet=not progress)
    status = console.status("reading the model")
    targets = {name: _target(name, settings, status.update) for name in settings.targets}
    with status, replacing(settings.out, "an engine") as folder:
        source, golden = _open_source(settings)
        bench = _Bench(source, golden, folder, console)
        bench.golden.save(folder)
        parts: dict[str, TargetManifest] = {}
        for name, target in targets.items():
            status.update(f"building {name}")
            parts[name] = bench.build(name, target, getattr(settings.precision, name))
        write_manifest(folder, bench.manifest(parts))
    console.print(f"{settings.out}: {_summary(source.spec)}", soft_wrap=True)
    return settings.out


@dataclass(frozen=True)
class _Bench:
    """What every target is built from, proven with and put into."""

    source: Source
    golden: Golden
    folder: Path
    console: Console

    def build(self, name: str, target: Target, wanted: Precision | Literal["auto"]) -> TargetManifest:
        """Build one target in the wanted precision.

        `auto` takes float32, unless the one that should be the fastest here is as exact, and is it clearly.
        """
        findings: list[str] = []
        passed: list[tuple[TargetManifest, float]] = []
        for precision in dict.fromkeys(["float32", target.fastest()] if wanted == "auto" else [wanted]):
            needed = NEEDED["float32" if wanted == "auto" else precision]
            part, seconds = self._attempt(name, target, precision)
            findings.append(f"{precision}: cosine {part.parity:.7f} found, {needed} needed")
            how = f", {part.streams} side by side" if part.streams > 1 else ""
            speed = f"{len(self.golden.frames) / seconds:.0f} frames/s{how}"
            self.console.print(f"{name} {findings[-1]}; {speed}", soft_wrap=True)
            if part.parity >= needed and (not passed or seconds * _CLEARLY < passed[-1][1]):
                passed.append((part, seconds))
        if passed:
            return passed[-1][0]
        raise MismatchError(
            f"target '{name}': its embeddings of the golden frames differ from the model's ({'; '.join(findings)}), "
            f"so no engine was written; set precision.{name} to float32, update its package, or leave the target out"
        )

    def _attempt(self, name: str, target: Target, precision: Precision) -> tuple[TargetManifest, float]:
        """One target with as many frames side by side as are the fastest, and its seconds for the golden frames."""
        written = target.write(self.source, self.folder, precision)
        part = TargetManifest(precision=precision, files=written.files, parity=-1, details=written.details)
        tried = (
            self._measure(name, target, part.model_copy(update={"streams": n})) for n in dict.fromkeys(written.streams)
        )
        return min(tried, key=lambda measured: measured[1])

    def _measure(self, name: str, target: Target, part: TargetManifest) -> tuple[TargetManifest, float]:
        """`part` with its parity, through the engine that the worker would open; seconds for the golden frames."""
        draft = EngineFolder(self.folder, self.manifest({name: part}), name)
        with closing(target.open_engine(draft)) as engine:
            found = engine.embed(self.golden.frames)
            seconds = seconds_of(partial(engine.embed, self.golden.frames))
        return part.model_copy(update={"parity": parity(found, self.golden.embeddings)}), seconds

    def manifest(self, parts: Mapping[str, TargetManifest]) -> EngineManifest:
        """The engine's manifest with these targets."""
        return EngineManifest(
            spec=self.source.spec,
            model=self.source.model_hash,
            products=self.source.manifest.products,
            holdout=self.source.manifest.holdout,
            group=self.source.manifest.group,
            pictures=self.source.manifest.pictures,
            targets=dict(parts),
            files=hash_files(self.folder, (path.name for path in self.folder.iterdir())),
            created_at=now(),
        )


def seconds_of(work: Callable[[], object]) -> float:
    """The shortest of some runs, which is the one that other programs disturbed least."""
    times = []
    for _ in range(_RUNS):
        started_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - started_s)
    return min(times)


def _target(name: TargetName, settings: BuildSettings, tell: Callable[[str], object]) -> Target:
    """The one place that names the targets; each is imported only when it is built."""
    if name == "openvino":
        from quarterturn.engine_build import openvino

        return openvino
    if name == "tensorrt":
        from quarterturn.engine_build.tensorrt import TensorRtTarget

        return TensorRtTarget(settings.tensorrt, settings.out, tell)
    from quarterturn.engine_build import onnxruntime

    return onnxruntime


def _open_source(settings: BuildSettings) -> tuple[Source, Golden]:
    """The graphs, and the golden embeddings that torch gave: now, or when the engine folder was exported."""
    if is_engine(settings.model):
        exported = ExportedGraphs(settings.model)
        if settings.pictures is not None or settings.views not in (None, exported.spec.views):
            raise ConfigError(
                f"{settings.model}: is an engine, so its {exported.spec.views} views and its golden frames are fixed; "
                "set 'views' and 'pictures' to null, or 'model' to the folder of a trained model"
            )
        return exported, exported.golden
    try:
        from quarterturn.engine_build.export import Exporter
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{settings.model}: to export a model the package '{error.name}' is needed; run: "
            "pip install 'quarterturn[train]', or set 'model' to an engine folder that was exported elsewhere"
        ) from error
    exporter = Exporter(settings.model, settings.views)
    frames = render_frames(exporter.spec.side, settings.golden_frames)
    if settings.pictures is not None:
        pictures = list_pictures(settings.pictures)[: settings.golden_frames]
        frames = np.concatenate([frames, *(read_frames(path, exporter.spec.framing)[:1] for path in pictures)])
    return exporter, Golden(frames, exporter.embed(frames))


def _summary(spec: EmbeddingSpec) -> str:
    """What the engine makes of a frame, in one sentence."""
    views = "1 view" if spec.views == 1 else f"{spec.views} views"
    sizes = (f"{name} {'x'.join(map(str, shape[1:]))}" for name, shape in spec.outputs.items())
    return f"{views} of {spec.side}x{spec.side} pixels; each gives {', '.join(sizes)}"
