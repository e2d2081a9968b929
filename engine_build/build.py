"""Build an engine: a trained model made ready for one or more runtimes, each proven on golden frames."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from rich.console import Console

from engine_build.config import BuildSettings, TargetName
from engine_build.export import Exporter
from engine_build.golden import GOLDEN, NEEDED, Golden, check, render_frames
from engine_build.target import Target, TargetFiles
from worker.contract.errors import DataError
from worker.contract.manifest import MANIFEST, EngineManifest, Precision, TargetManifest, hash_files, write_manifest
from worker.contract.pictures import list_pictures
from worker.contract.preprocess import read_frame
from worker.engine.base import EngineFolder


def build(settings: BuildSettings, progress: bool = True) -> Path:
    """Build the engine folder `settings.out` from the model folder `settings.model`; returns its path.

    The folder appears whole or not at all, and only when every target reproduces the golden embeddings.

    Raises:
        ConfigError: the package of a target is not installed.
        DataError: the model or a picture is missing or damaged, or `out` holds something that is no engine.
        MismatchError: a target's embeddings differ from torch's; the text prints the cosine found and the one needed.
    """
    console = Console(stderr=True, quiet=not progress)
    targets = {name: _target(name) for name in settings.targets}
    with console.status("reading the model") as status, _replacing(settings.out) as folder:
        exporter = Exporter(settings.model, settings.views)
        golden = _golden(settings, exporter)
        golden.save(folder)
        parts: dict[str, TargetManifest] = {}
        for name, target in targets.items():
            status.update(f"building {name}")
            precision: Precision = getattr(settings.precision, name)
            parts[name] = _unproven(target.write(exporter, folder, precision), precision)
        manifest = _manifest(exporter, parts, folder)
        for name, target in targets.items():
            status.update(f"checking {name}")
            parts[name] = _prove(target, EngineFolder(folder, manifest, name), golden, console)
        write_manifest(folder, manifest.model_copy(update={"targets": parts}))
    console.print(f"{settings.out}: {exporter.spec.views} views of {exporter.spec.side}x{exporter.spec.side} pixels")
    return settings.out


def _target(name: TargetName) -> Target:
    """The one place that names the targets; each is imported only when it is built."""
    if name == "openvino":
        from engine_build import openvino

        return openvino
    from engine_build import onnxruntime

    return onnxruntime


def _golden(settings: BuildSettings, exporter: Exporter) -> Golden:
    side = exporter.spec.side
    frames = render_frames(side, settings.golden_frames)
    if settings.pictures is not None:
        pictures = list_pictures(settings.pictures)[: settings.golden_frames]
        frames = np.concatenate([frames, [read_frame(path, side) for path in pictures]])
    return Golden(frames, exporter.embed(frames))


def _unproven(written: TargetFiles, precision: Precision) -> TargetManifest:
    return TargetManifest(precision=precision, files=written.files, parity=-1, details=written.details)


def _prove(target: Target, folder: EngineFolder, golden: Golden, console: Console) -> TargetManifest:
    """The target's manifest with the parity that its engine reached."""
    part = folder.manifest.targets[folder.target]
    with closing(target.open_engine(folder)) as engine:
        parity = check(engine, golden, part.precision)
    console.print(f"{folder.target} ({part.precision}): cosine {parity:.7f}, needed {NEEDED[part.precision]}")
    return part.model_copy(update={"parity": parity})


def _manifest(exporter: Exporter, parts: Mapping[str, TargetManifest], folder: Path) -> EngineManifest:
    files = {GOLDEN, *(name for part in parts.values() for name in part.files)}
    return EngineManifest(
        spec=exporter.spec,
        model=exporter.model_hash,
        products=exporter.manifest.products,
        holdout=exporter.manifest.holdout,
        targets=dict(parts),
        files=hash_files(folder, files),
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


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
