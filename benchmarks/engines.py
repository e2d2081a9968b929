"""Frames per second of every engine on this machine, side by side, and of the machine's limit.

    python -m benchmarks.engines                                                           # the default encoder
    python -m benchmarks.engines --whole --backbone resnet18 --side 128                    # whole-frame embeddings

Nothing is trained, which speed does not depend on. All engines do the same job, from uint8 frames to embeddings, and
take turns within each round. Prints a Markdown table: frames/s (the best round, which other work on the machine
disturbed least), the ratio to ONNX Runtime, and the peak memory of a process with that engine alone. What a bank takes
behind them is in benchmarks.banks.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.encoder import add_encoder, said, untrained_encoder
from benchmarks.figures import Figure
from benchmarks.gpu import work_of
from quarterturn.engine_build.build import build
from quarterturn.engine_build.config import BuildSettings, Precisions
from quarterturn.engine_build.export import Exporter, FrameGraph
from quarterturn.engine_build.golden import render_frames
from quarterturn.trainer.checkpoint import save_model
from quarterturn.worker.contract.errors import MismatchError
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.manifest import Precision
from quarterturn.worker.engine.base import Engine, EngineFolder, open_folder
from quarterturn.worker.engine.onnxruntime import OnnxRuntimeEngine
from quarterturn.worker.engine.openvino import OpenVinoEngine, available_threads
from quarterturn.worker.runtime.memory import keep_freed_memory

BATCHES = (1, 4, 8, 16)
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
PART = "engine"
_ROUND_S = 2.0  # what ran just before takes up to a second to leave the cores alone
REFERENCE = "ONNX Runtime float32"
Embed = Callable[[npt.NDArray[np.uint8]], Any]

# A process of its own: this one has loaded torch.
PEAK_OF_ONE_ENGINE = """
import sys
from pathlib import Path
import numpy as np
from quarterturn.worker.runtime.assemble import open_engine
from quarterturn.worker.settings.worker import EngineSettings
engine = open_engine(EngineSettings(path=Path(sys.argv[1]), target=sys.argv[2]))
for batch in (1, 16, 3, 16):
    engine.embed(np.zeros((batch, engine.spec.side, engine.spec.side, 3), np.uint8))
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def main() -> None:
    keep_freed_memory()
    arguments = parse()
    with tempfile.TemporaryDirectory() as scratch:
        model, folder = Path(scratch, "model"), Path(scratch, "engine")
        make_model(model, arguments)
        exact = Precisions(openvino="float32", onnxruntime="float32")
        build(
            BuildSettings(model=model, out=folder, targets=("openvino", "onnxruntime"), precision=exact), progress=False
        )
        contenders = {"torch float32": eager(model, arguments.threads), **engines(folder, arguments.threads)}
        speeds = race(contenders, render_frames(arguments.side, max(BATCHES)), arguments.rounds)
        peaks = {
            "ONNX Runtime float32": peak_mb(folder, "onnxruntime"),
            "OpenVINO float32": peak_mb(folder, "openvino"),
        }
    print(f"{said(arguments)}, {arguments.threads} threads, best of {arguments.rounds} rounds\n")
    print(f"| | {' | '.join(f'batch {batch}' for batch in BATCHES)} | peak MB |\n|---{'|---' * len(BATCHES)}|---|")
    for name, by_batch in speeds.items():
        cells = [f"{by_batch[batch]:.0f} ({by_batch[batch] / speeds[REFERENCE][batch]:.2f}×)" for batch in BATCHES]
        print(f"| {name} | {' | '.join(cells)} | {peaks.get(name, '')} |")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_encoder(parser)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=30)
    return parser.parse_args()


def make_model(folder: Path, arguments: argparse.Namespace) -> None:
    save_model(
        folder,
        untrained_encoder(arguments),
        framing=Framing(side=arguments.side),
        products=("part",),
        views=arguments.views,
        holdout=0.0,
        group=None,
        pictures={},
        rotations={},
        training={},
    )


def eager(model: Path, threads: int) -> Embed:
    """The exported graph before its export."""
    torch.set_num_threads(threads)
    exporter = Exporter(model)
    graph = FrameGraph(exporter.encoder, exporter.spec, "float32")

    @torch.inference_mode()
    def embed(frames: npt.NDArray[np.uint8]) -> object:
        return graph(torch.from_numpy(frames))

    return embed


def engines(folder: Path, threads: int) -> dict[str, Embed]:
    opened: dict[str, Engine] = {
        REFERENCE: OnnxRuntimeEngine(open_folder(folder, "onnxruntime"), threads),
        "OpenVINO float32": OpenVinoEngine(open_folder(folder, "openvino"), threads),
    }
    try:
        coarse = in_type("bfloat16", folder, folder.with_name("bfloat16"))
        opened["OpenVINO bfloat16"] = OpenVinoEngine(coarse, threads)
    except MismatchError as error:
        print(f"without bfloat16: {error}", file=sys.stderr)
    return {name: engine.embed for name, engine in opened.items()}


def in_type(precision: Precision, source: Path, out: Path) -> EngineFolder:
    """A model or an engine's graph, built for OpenVINO to compute in this type.

    Raises:
        MismatchError: this processor does not, or not well enough.
    """
    wanted = Precisions.model_validate({"openvino": precision})
    build(BuildSettings(model=source, out=out, precision=wanted), progress=False)
    return open_folder(out, "openvino")


def measure(model: Path, folder: Path, rounds: int) -> list[Figure]:
    """An engine of OpenVINO by batch, and by views, precision and network; the share of this machine's arithmetic."""
    few = BATCHES[-2:-1]
    figures = measured(model, open_folder(folder, "openvino"), "four views", BATCHES, rounds)
    with tempfile.TemporaryDirectory() as scratch:
        single, residual = Path(scratch, "single"), Path(scratch, "residual")
        for precision in PRECISIONS:
            with contextlib.suppress(MismatchError):  # a processor that knows no bfloat16
                engine = in_type(precision, folder, Path(scratch, precision))
                product = peak_operations_s(precision) / 1e9
                figures.append(Figure(PART, f"a large matrix product, {precision}", (product,), "GFLOP/s", "more"))
                figures += measured(model, engine, precision, few, rounds)
        build(BuildSettings(model=model, out=single, views=1), progress=False)
        figures += measured(model, open_folder(single, "openvino"), "one view", (1, *few), rounds)
        parser = argparse.ArgumentParser()
        add_encoder(parser)
        make_model(residual, parser.parse_args(["--backbone", "resnet18"]))
        build(BuildSettings(model=residual, out=Path(scratch, "other")), progress=False)
        other = open_folder(Path(scratch, "other"), "openvino")
        return figures + measured(residual, other, "ResNet-18", few, rounds)


def measured(model: Path, folder: EngineFolder, name: str, batches: Sequence[int], rounds: int) -> list[Figure]:
    """Frames/s of one engine by batch, and how much that is of a large matrix product in the same type."""
    peak = peak_operations_s(folder.manifest.targets["openvino"].precision)
    exporter = Exporter(model, folder.manifest.spec.views)
    operations = work_of(FrameGraph(exporter.encoder, exporter.spec, "float32")).operations
    figures = []
    with closing(OpenVinoEngine(folder)) as engine:
        frames = render_frames(engine.spec.side, max(BATCHES))
        for batch in batches:
            speeds = tuple(speed_of(engine.embed, frames, batch, _ROUND_S) for _ in range(rounds))
            figures.append(Figure(PART, f"{name}, batch {batch}", speeds, "frames/s", "more"))
            shares = tuple(100 * speed * operations / peak for speed in speeds)
            figures.append(Figure(PART, f"{name}, batch {batch}: of the machine's arithmetic", shares, "%", "more"))
    return figures


@cache
def peak_operations_s(precision: Precision) -> float:
    """Floating-point operations a second of a large matrix product by all cores, at best."""
    torch.set_num_threads(available_threads())  # NumPy's product has one thread here
    side = 4096
    matrix = torch.ones(side, side, dtype=getattr(torch, precision))
    return max(2 * side**3 / _seconds(lambda: matrix @ matrix) for _ in range(5))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def speed_of(embed: Embed, frames: npt.NDArray[np.uint8], batch: int, least_s: float = 0.0) -> float:
    """Frames a second of some calls one after the other, which take `least_s` seconds or more."""
    embed(frames[:batch])  # brings caches and cores back from what ran before
    calls, started_s = 0, time.perf_counter()
    while calls * batch < max(BATCHES) or time.perf_counter() - started_s < least_s:
        embed(frames[:batch])
        calls += 1
    return calls * batch / (time.perf_counter() - started_s)


def race(contenders: dict[str, Embed], frames: npt.NDArray[np.uint8], rounds: int) -> dict[str, dict[int, float]]:
    """Frames per second of each contender for each batch size, in its best round."""
    best: dict[str, dict[int, float]] = {name: dict.fromkeys(BATCHES, 0.0) for name in contenders}
    for batch in BATCHES:
        for _ in range(rounds):
            for name, embed in contenders.items():
                best[name][batch] = max(best[name][batch], speed_of(embed, frames, batch))
    return best


def peak_mb(folder: Path, target: str) -> int:
    """Peak resident memory of a process that runs one engine on batches of up to 16."""
    command = [sys.executable, "-c", PEAK_OF_ONE_ENGINE, str(folder), target]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout) // 1024


if __name__ == "__main__":
    main()
