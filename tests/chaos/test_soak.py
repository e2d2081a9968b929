"""The soak's short form, and its arithmetic. `make soak` runs it for an hour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.chaos.line import line as running_line
from tests.chaos.soak import Sample, grows, plot, slopes, soak
from tests.lines import MadeLine


@pytest.mark.server  # of its own
@pytest.mark.timeout(300)
def test_a_worker_keeps_up_and_loses_nothing(line: MadeLine, tmp_path: Path) -> None:
    with running_line(line, tmp_path) as soaked:
        samples, account, _ = soak(soaked, minutes=0.25, rate=50)
    assert account.frames > 500
    assert (account.lost, account.doubled, account.faults) == (0, 0, ())
    assert all(sample.memory_mb > 50 and sample.handles > 5 and sample.threads > 1 for sample in samples)
    plot(samples, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").stat().st_size > 10_000


def samples_of(memory: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[Sample]:
    return [Sample(n * 0.5, mb, 20, 9, n % 3) for n, mb in enumerate(memory)]


def test_slopes_are_those_of_an_independent_fit() -> None:
    noise = np.random.default_rng(0).normal(size=100)
    samples = samples_of(200 + 0.1 * np.arange(100) + noise)
    kept = [sample for sample in samples if sample.minutes >= 0.25 * 49.5]
    fit = stats.linregress([sample.minutes / 60 for sample in kept], [sample.memory_mb for sample in kept])
    memory, handles, *_ = slopes(samples)
    assert (memory.per_hour, memory.error) == (pytest.approx(fit.slope), pytest.approx(fit.stderr))
    assert (handles.per_hour, handles.level) == (pytest.approx(0, abs=1e-9), 20)


@pytest.mark.parametrize(("growth", "found"), [(0.0, False), (0.2, True), (-0.2, False)])
def test_growth_is_told_from_noise(growth: float, found: bool) -> None:
    noise = np.random.default_rng(1).normal(size=100)
    assert grows(samples_of(200 + growth * np.arange(100) + noise)) is found


def test_what_fills_up_in_the_warm_up_is_no_growth() -> None:
    assert not grows(samples_of(200 - 100 * np.exp(-np.arange(100.0) / 4)))
