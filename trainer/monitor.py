"""What a person sees of a training run: progress bars, TensorBoard curves, and the way to stop it."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from quarterturn.worker.contract.errors import QuarterturnError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_INTERVAL = 10  # steps between looks at the loss: each look waits for the device


class Monitor:
    """Shows the mean loss and the speed of every ten steps of a stage; a context."""

    def __init__(self, stage: str, start: int, steps: int, tensorboard: Path | None, progress: bool) -> None:
        self.loss: float | None = None
        self.steps_per_s: float | None = None
        self._stage = stage
        self._steps = steps
        self._waiting: list[Tensor] = []
        self._since = time.perf_counter()
        self._writer = _summary_writer(tensorboard / stage, start) if tensorboard else None
        self._bar = Progress(
            TextColumn(f"training the {stage}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not progress,
        )
        self._task = self._bar.add_task("training", total=steps, completed=start, state="")

    def __enter__(self) -> Monitor:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._writer:
            self._writer.close()

    def step(self, step: int, losses: Mapping[str, Tensor], learning_rate: float) -> None:
        """Note the losses of step number `step` (from 0); the first of them is the one that is minimised.

        Raises:
            QuarterturnError: the loss is no number any more.
        """
        self._waiting.append(torch.stack([loss.detach() for loss in losses.values()]))
        if len(self._waiting) < _INTERVAL and step + 1 < self._steps:
            return
        means = torch.stack(self._waiting).mean(dim=0).tolist()
        now = time.perf_counter()
        self.loss = means[0]
        self.steps_per_s = len(self._waiting) / (now - self._since)
        self._waiting, self._since = [], now
        if not math.isfinite(means[0]):
            raise QuarterturnError(
                f"the loss is {means[0]} at step {step + 1}: lower '{self._stage}.learning_rate' and train again"
            )
        state = f"loss {self.loss:.3f}  {self.steps_per_s:,.0f} steps/s"
        self._bar.update(self._task, completed=step + 1, state=state)
        if self._writer:
            scalars = {**dict(zip(losses, means, strict=True)), "learning_rate": learning_rate}
            for name, value in {**scalars, "steps_per_s": self.steps_per_s}.items():
                self._writer.add_scalar(name, value, step + 1)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Tell whether Ctrl-C or SIGTERM came; a second one acts at once. Outside the main thread nothing is caught."""
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def ask(_number: int, _frame: FrameType | None) -> None:
        came.set()
        restore()

    for number in previous:
        signal.signal(number, ask)
    try:
        yield came.is_set
    finally:
        restore()


def _summary_writer(folder: Path, start: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise QuarterturnError("tensorboard is not installed; install it or remove 'tensorboard'") from error
    return SummaryWriter(str(folder), purge_step=start + 1)
