"""What of the GPU benchmark can be checked without a GPU: its counting, its floors, its table, its measuring."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import gpu
from benchmarks.gpu import Peak, Speed, Work
from quarterturn.engine_build.golden import parity, render_frames


def graph_of(*arguments: str) -> Any:
    return gpu.make_graph(gpu.parse(["--out", "x", *arguments]))


def test_work_is_counted_by_the_formula() -> None:
    """Of a ResNet-18 of whole frames (He et al., table 1), written out: side 32, two views, float16."""
    graph = graph_of("--whole", "--backbone", "resnet18", "--side", "32", "--views", "2", "--stem", "cifar")
    convolutions = [(3, 64, 3, 32, 32)]  # channels in and out, kernel, side of what goes in and comes out
    channels, side = 64, 32
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        out = side // stride
        convolutions += [(channels, width, 3, side, out), *[(width, width, 3, out, out)] * 3]
        convolutions += [(channels, width, 1, side, out)] if stride == 2 else []
        channels, side = width, out
    linear = [(512, 512), (512, 64)]
    views = 2
    multiplications = sum(f * t * k**2 * out**2 for f, t, k, _, out in convolutions) + sum(f * t for f, t in linear)
    tensors = sum(f * side**2 + t * out**2 for f, t, _, side, out in convolutions) + sum(f + t for f, t in linear)
    weights = sum(f * t * k**2 for f, t, k, _, _ in convolutions) + sum(f * t for f, t in linear)
    assert gpu.work_of(graph) == Work(2 * views * multiplications, 2 * views * tensors, 2 * weights)


class Depthwise(nn.Module):
    """A graph whose channels are convolved each alone, as the backbone's are: 3 to 6, kernels of 3 x 3."""

    spec = SimpleNamespace(side=8)

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False)

    def forward(self, frames: torch.Tensor) -> Any:
        return self.convolution(frames.permute(0, 3, 1, 2).float())


def test_a_channel_that_is_convolved_alone_is_counted_alone() -> None:
    graph: Any = Depthwise()
    assert gpu.work_of(graph) == Work(2 * 6 * 8**2 * 3**2, 4 * (3 + 6) * 8**2, 4 * 6 * 3**2)


def test_work_does_not_change_the_graph() -> None:
    graph = graph_of("--side", "64")
    assert gpu.work_of(graph) == gpu.work_of(graph)


def test_floors_are_what_the_peaks_allow() -> None:
    work, peak = Work(operations=1000, tensor_bytes=40, weight_bytes=160), Peak(operations_s=5e6, bytes_s=1e6)
    assert gpu.floors(work, peak, 1) == {"arithmetic": 5000, "memory": 5000}
    assert gpu.floors(work, peak, 16) == {"arithmetic": 5000, "memory": 20000}


def test_the_table_says_frames_latency_and_share() -> None:
    work, peak = Work(operations=1000, tensor_bytes=40, weight_bytes=160), Peak(operations_s=5e6, bytes_s=1e6)
    speeds = {"torch": {n: Speed(frames_s=500.0 * n, latency_ms=2.0) for n in gpu.BATCHES}}
    lines = gpu.table(speeds, work, peak).splitlines()
    assert lines[0].split(" | ")[1:3] == ["batch 1", "batch 4"]
    assert lines[2].split(" | ")[:3] == ["| torch", "500 (2.00 ms, 10.0%)", "2000 (2.00 ms, 40.0%)"]
    assert lines[3].split(" | ")[:3] == ["| arithmetic alone", "5000 (0.200 ms)", "5000 (0.800 ms)"]
    assert lines[4].split(" | ")[:2] == ["| memory alone", "5000 (0.200 ms)"]
    assert len({line.count("|") for line in lines}) == 1


def test_the_graph_in_channels_last_computes_the_same() -> None:
    graph = graph_of("--side", "64")
    frames = torch.from_numpy(render_frames(64, 2))
    with torch.inference_mode():
        runs = (gpu.called(gpu.channels_last(graph, torch.device("cpu")), frames)(), graph(frames))
    names = ["frame", "places.middle", "places.deep", "logits"]
    found, wanted = (dict(zip(names, [one.numpy() for one in run], strict=True)) for run in runs)
    assert [values.shape[:2] for values in found.values()] == [(2, 4)] * 4
    assert parity(found, wanted) > 0.99
    weights = [w for w in gpu.channels_last(graph, torch.device("cpu")).parameters() if w.dim() == 4 and w.shape[2] > 1]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
    assert weights


def test_speed_is_measured_alone_and_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU for which a batch alone takes 4 ms, and one after the other 1 ms."""
    clock, queued = [0.0], [0]

    def run() -> None:
        queued[0] += 1

    def synchronise() -> None:
        clock[0] += 0.003 + 0.001 * queued[0] if queued[0] else 0
        queued[0] = 0

    monkeypatch.setattr(gpu.time, "perf_counter", lambda: clock[0])
    speed = gpu.speed_of(run, batch=8, synchronise=synchronise)
    assert speed.latency_ms == pytest.approx(4)
    assert speed.frames_s == pytest.approx(8 / 0.001, rel=0.02)


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu", "--out", str(tmp_path / "gpu.md")])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main() == 1
    assert capsys.readouterr().out == (
        "benchmarks.gpu: there is no NVIDIA GPU here that torch can use; run it on a machine that has one\n"
    )
    assert not list(tmp_path.iterdir())


def test_the_whole_way_with_a_gpu_that_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything but the GPU's own calls: the same graph on the CPU, under the contenders' names."""
    monkeypatch.setattr(gpu, "BATCHES", (1, 2))
    monkeypatch.setattr("sys.argv", ["gpu", "--out", str(tmp_path / "deep" / "gpu.md"), "--side", "64", "--views", "1"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "no GPU")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    monkeypatch.setattr(gpu, "measured_peak", lambda: Peak(1e12, 1e11))
    monkeypatch.setattr(
        gpu,
        "contenders",
        lambda graph: {"torch": lambda frames: gpu.called(gpu.channels_last(graph, frames.device), frames)},
    )
    measure = gpu.speed_of
    monkeypatch.setattr(gpu, "speed_of", lambda run, batch, sync: measure(run, batch, sync, seconds=0.05))
    assert gpu.main() == 0
    text = (tmp_path / "deep" / "gpu.md").read_text()
    assert text.startswith(
        "tf_efficientnet_lite0, own stem, all depths and logits, 64x64 pixels, 1 views, float16, on no GPU:"
    )
    assert "1.0 TFLOP/s and 100 GB/s measured" in text
    assert np.sum([line.startswith("| ") for line in text.splitlines()]) == 4
