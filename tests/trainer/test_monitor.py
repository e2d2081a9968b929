from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from quarterturn.trainer.monitor import Monitor, stop_signals
from quarterturn.worker.contract.errors import QuarterturnError


def test_curves_hold_the_mean_of_ten_steps_and_of_the_rest(tmp_path: Path) -> None:
    with Monitor("head", 0, 13, tmp_path, progress=False) as monitor:
        for step in range(13):
            monitor.step(step, {"loss": torch.tensor(float(step)), "ccm": torch.tensor(1.0)}, 0.5)
    curves = EventAccumulator(str(tmp_path / "head")).Reload()
    assert [(point.step, point.value) for point in curves.Scalars("loss")] == [(10, 4.5), (13, 11.0)]
    assert {point.value for point in curves.Scalars("ccm")} == {1.0}
    assert {point.value for point in curves.Scalars("learning_rate")} == {0.5}
    assert all(point.value > 0 for point in curves.Scalars("steps_per_s"))
    assert monitor.loss == 11.0


def test_a_resumed_stage_draws_its_curve_on_and_leaves_another_stages_alone(tmp_path: Path) -> None:
    for stage, start, steps in (("projection", 0, 30), ("head", 0, 20), ("head", 10, 30)):
        with Monitor(stage, start, steps, tmp_path, progress=False) as monitor:
            for step in range(start, steps):
                monitor.step(step, {"loss": torch.tensor(float(start))}, 0.5)
    found = {
        stage: [(point.step, point.value) for point in EventAccumulator(str(tmp_path / stage)).Reload().Scalars("loss")]
        for stage in ("projection", "head")
    }
    assert found == {"projection": [(10, 0.0), (20, 0.0), (30, 0.0)], "head": [(10, 0.0), (20, 10.0), (30, 10.0)]}


def test_the_bar_says_loss_and_speed(capsys: pytest.CaptureFixture[str]) -> None:
    with Monitor("head", 0, 1, None, progress=True) as monitor:
        monitor.step(0, {"loss": torch.tensor(1.25)}, 0.5)
    shown = capsys.readouterr()
    assert "training the head" in shown.err
    assert "1/1 loss 1.250" in shown.err
    assert "steps/s" in shown.err
    assert not shown.out


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    with (
        pytest.raises(QuarterturnError, match=r"the loss is nan at step 1: lower 'head\.learning_rate' and train"),
        Monitor("head", 0, 1, None, progress=False) as monitor,
    ):
        monitor.step(0, {"loss": torch.tensor(torch.nan)}, 0.5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_acts(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_signals() as stopping:
        assert not stopping()
        os.kill(os.getpid(), number)
        assert stopping()
        assert signal.getsignal(number) == before
    assert signal.getsignal(number) == before


def test_handlers_are_restored_without_a_signal() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_signals():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_other_threads_train_without_handlers() -> None:
    answers: list[bool] = []

    def look() -> None:
        with stop_signals() as stopping:
            answers.append(stopping())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert answers == [False]
