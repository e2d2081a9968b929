"""How fast the float16 graph runs on this GPU without TensorRT, and how far that is from what the GPU can do.

    python -m benchmarks.gpu --out out/gpu.md                                              # the default encoder
    python -m benchmarks.gpu --out out/gpu.md --whole --backbone resnet18 --side 128       # whole-frame embeddings

Nothing is trained, which speed does not depend on. Contenders are torch (channels last: call by call, as a CUDA graph,
compiled and as a CUDA graph) and ONNX Runtime's CUDA provider where it is installed. Frames are on the GPU already.
 The file gets a Markdown table: frames/s of batches enqueued one after the other, the latency of a batch alone
(median), and the share of the GPU's float16 peak. The floors are what the multiplications alone, and the tensors
between the convolutions alone, would take at the speeds that a large product and a large copy reach on this GPU.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from benchmarks.encoder import add_encoder, said, spec_of, untrained_encoder
from quarterturn.engine_build.export import FrameGraph, to_onnx
from quarterturn.engine_build.golden import render_frames

BATCHES = (1, 4, 8, 16, 32, 64)
Run = Callable[[], object]


@dataclass(frozen=True)
class Work:
    """Of one frame, by convolutions and linear layers: floating-point operations (two a multiplication), bytes of the
    tensors that they read and write; and the bytes of their weights, which a batch reads once."""

    operations: int
    tensor_bytes: int
    weight_bytes: int


@dataclass(frozen=True)
class Peak:
    """What the GPU reaches at best: operations/s in float16, and bytes/s read plus bytes/s written."""

    operations_s: float
    bytes_s: float


@dataclass(frozen=True)
class Speed:
    """Of one contender at one batch size."""

    frames_s: float
    latency_ms: float


def main() -> int:
    arguments = parse()
    if not torch.cuda.is_available():
        print("benchmarks.gpu: there is no NVIDIA GPU here that torch can use; run it on a machine that has one")
        return 1
    graph = make_graph(arguments)
    work, peak = work_of(graph), measured_peak()
    frames = torch.from_numpy(render_frames(arguments.side, max(BATCHES))).cuda()
    speeds: dict[str, dict[int, Speed]] = {}
    for name, prepare in contenders(graph).items():
        speeds[name] = {n: speed_of(prepare(frames[:n]), n, torch.cuda.synchronize) for n in BATCHES}
        print(name, speeds[name][max(BATCHES)], file=sys.stderr)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(f"{headline(arguments, peak)}\n\n{table(speeds, work, peak)}\n", encoding="utf-8")
    return 0


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_encoder(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the table goes")
    return parser.parse_args(argv)


def make_graph(arguments: argparse.Namespace) -> FrameGraph:
    encoder = untrained_encoder(arguments)
    return FrameGraph(encoder, spec_of(encoder, arguments), "float16")


@torch.inference_mode()
def work_of(graph: FrameGraph) -> Work:
    """What one frame costs, counted while one goes through on the CPU."""
    operations = tensor_bytes = weight_bytes = 0

    def count(module: nn.Module, given: tuple[Tensor], made: Tensor) -> None:
        nonlocal operations, tensor_bytes, weight_bytes
        weight = module.weight
        assert isinstance(weight, Tensor)
        operations += 2 * made.numel() * weight[0].numel()
        tensor_bytes += given[0].nbytes + made.nbytes
        weight_bytes += weight.nbytes

    layers = [module for module in graph.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    graph(torch.zeros(1, graph.spec.side, graph.spec.side, 3, dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    return Work(operations, tensor_bytes, weight_bytes)


def measured_peak(size: int = 8192) -> Peak:
    """The best of a product of two large float16 matrices, and of a copy of one of 2 GiB."""
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.float16) for _ in range(2))
    product = speed_of(lambda: left @ right, 1, torch.cuda.synchronize)
    source = torch.empty(2**31, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copied = speed_of(lambda: target.copy_(source), 1, torch.cuda.synchronize)
    return Peak(2 * size**3 * product.frames_s, 2 * source.nbytes * copied.frames_s)


def speed_of(run: Run, batch: int, synchronise: Callable[[], object], seconds: float = 1.0) -> Speed:
    """Warm up, then about `seconds` each of runs alone and of runs one after the other."""
    for _ in range(3):
        run()
    synchronise()
    alone: list[float] = []
    while sum(alone) < seconds:
        start_s = time.perf_counter()
        run()
        synchronise()
        alone.append(time.perf_counter() - start_s)
    latency_s = statistics.median(alone)
    start_s = time.perf_counter()
    for _ in alone:
        run()
    synchronise()
    return Speed(len(alone) * batch / (time.perf_counter() - start_s), 1000 * latency_s)


def contenders(graph: FrameGraph) -> dict[str, Callable[[Tensor], Run]]:
    """Each takes a batch and returns what embeds it."""
    on_gpu = channels_last(graph, torch.device("cuda"))
    compiled = torch.compile(on_gpu, mode="max-autotune-no-cudagraphs", dynamic=False)
    found: dict[str, Callable[[Tensor], Run]] = {
        "torch": lambda frames: called(on_gpu, frames),
        "torch, CUDA graph": lambda frames: captured(called(on_gpu, frames)),
        "torch.compile, CUDA graph": lambda frames: captured(called(compiled, frames)),
    }
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        session = onnxruntime.InferenceSession(
            to_onnx(graph, graph.spec).SerializeToString(),
            providers=[("CUDAExecutionProvider", {"prefer_nhwc": "1"})],
        )
        found["ONNX Runtime, CUDA"] = lambda frames: bound(session, frames)
    return found


def channels_last(graph: FrameGraph, device: torch.device) -> nn.Module:
    """A copy of the graph on the device, its convolutions in the layout that tensor cores like."""
    # A copy of a traced network forgets that it was in evaluation mode.
    moved: nn.Module = copy.deepcopy(graph).eval().to(device)
    return moved.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def called(module: Callable[[Tensor], Any], frames: Tensor) -> Run:
    @torch.inference_mode()
    def run() -> Any:
        return module(frames)

    return run


def captured(run: Run) -> Run:
    """The same as one CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def bound(session: Any, frames: Tensor) -> Run:
    """ONNX Runtime from and to memory of the GPU."""
    binding = session.io_binding()
    binding.bind_input("frames", "cuda", 0, "uint8", tuple(frames.shape), frames.data_ptr())
    for output in session.get_outputs():
        binding.bind_output(output.name, "cuda")
    return lambda: session.run_with_iobinding(binding)


def floors(work: Work, peak: Peak, batch: int) -> dict[str, float]:
    """Frames/s that no way of computing this graph can exceed on this GPU, by what limits it."""
    read_once = work.weight_bytes / batch
    return {
        "arithmetic": peak.operations_s / work.operations,
        "memory": peak.bytes_s / (work.tensor_bytes + read_once),
    }


def headline(arguments: argparse.Namespace, peak: Peak) -> str:
    return (
        f"{said(arguments)}, float16, on {torch.cuda.get_device_name()}: {peak.operations_s / 1e12:.1f} TFLOP/s and "
        f"{peak.bytes_s / 1e9:.0f} GB/s measured; torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}"
    )


def table(speeds: dict[str, dict[int, Speed]], work: Work, peak: Peak) -> str:
    """Markdown: frames/s (latency, share of the peak) of each contender and batch, then the floors."""
    lines = [f"| | {' | '.join(f'batch {n}' for n in BATCHES)} |", f"|---{'|---' * len(BATCHES)}|"]
    for name, by_batch in speeds.items():
        shares = {n: speed.frames_s * work.operations / peak.operations_s for n, speed in by_batch.items()}
        cells = [f"{by_batch[n].frames_s:.0f} ({by_batch[n].latency_ms:.2f} ms, {shares[n]:.1%})" for n in BATCHES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for limit in ("arithmetic", "memory"):
        cells = [
            f"{floors(work, peak, n)[limit]:.0f} ({1000 * n / floors(work, peak, n)[limit]:.3f} ms)" for n in BATCHES
        ]
        lines.append(f"| {limit} alone | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
