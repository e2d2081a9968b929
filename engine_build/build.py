"""Build an engine: a trained model made ready for one or more runtimes, each proven on golden frames."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from engine_build.config import BuildSettings, TargetName
from engine_build.golden import NEEDED, Golden, parity, render_frames
from engine_build.source import ExportedGraphs, Source, is_engine
from engine_build.target import Target
from worker.contract.errors import ConfigError, DataError, MismatchError
from worker.contract.manifest import (
    MANIFEST,
    EmbeddingSpec,
    EngineManifest,
    Precision,
    TargetManifest,
    hash_files,
    write_manifest,
)
from worker.contract.pictures import list_pictures
from worker.contract.preprocess import read_frames
from worker.engine.base import EngineFolder


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
    with status, _replacing(settings.out) as folder:
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
        """Build one target in the wanted precision; `auto` takes the fastest, or float32 where that is too coarse."""
        findings = []
        for precision in dict.fromkeys([target.fastest(), "float32"] if wanted == "auto" else [wanted]):
            part, needed = self._attempt(name, target, precision), NEEDED[precision]
            findings.append(f"{precision}: cosine {part.parity:.7f} found, {needed} needed")
            self.console.print(f"{name} {findings[-1]}")
            if part.parity >= needed:
                return part
        raise MismatchError(
            f"target '{name}': its embeddings of the golden frames differ from the model's ({'; '.join(findings)}), "
            f"so no engine was written; set precision.{name} to float32, update its package, or leave the target out"
        )

    def _attempt(self, name: str, target: Target, precision: Precision) -> TargetManifest:
        """One target, measured through the engine that the worker would open."""
        written = target.write(self.source, self.folder, precision)
        part = TargetManifest(precision=precision, files=written.files, parity=-1, details=written.details)
        draft = EngineFolder(self.folder, self.manifest({name: part}), name)
        with closing(target.open_engine(draft)) as engine:
            found = engine.embed(self.golden.frames)
        return part.model_copy(update={"parity": parity(found, self.golden.embeddings)})

    def manifest(self, parts: Mapping[str, TargetManifest]) -> EngineManifest:
        """The engine's manifest with these targets."""
        return EngineManifest(
            spec=self.source.spec,
            model=self.source.model_hash,
            products=self.source.manifest.products,
            holdout=self.source.manifest.holdout,
            targets=dict(parts),
            files=hash_files(self.folder, (path.name for path in self.folder.iterdir())),
            created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )


def _target(name: TargetName, settings: BuildSettings, tell: Callable[[str], object]) -> Target:
    """The one place that names the targets; each is imported only when it is built."""
    if name == "openvino":
        from engine_build import openvino

        return openvino
    if name == "tensorrt":
        from engine_build.tensorrt import TensorRtTarget

        return TensorRtTarget(settings.tensorrt, settings.out, tell)
    from engine_build import onnxruntime

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
        from engine_build.export import Exporter
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


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of `out` at the end; after an error `out` is as it was.

    Raises:
        DataError: `out` cannot be written, or it is a file or a folder of something else.
    """
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is no engine, so it will not be replaced; set 'out' to another folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-")
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror}); set 'out' to another folder") from error
    with scratch:
        new = Path(scratch.name, "new")
        new.mkdir()
        yield new
        if out.exists():
            out.rename(Path(scratch.name, "old"))
        new.rename(out)
