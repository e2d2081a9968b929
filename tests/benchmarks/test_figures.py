from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import figures
from benchmarks.figures import Figure

SPEED = Figure("engine", "batch 4", (30.0, 33.0, 31.0), "frames/s", "more")
WAIT = Figure("worker", "p99", (80.0,), "ms", "less")


def test_a_table_has_medians_and_ranges() -> None:
    assert figures.table([SPEED, WAIT]).splitlines()[2:] == [
        "| engine | batch 4 | 31 | 30 to 33 | frames/s |",
        "| worker | p99 | 80 |  | ms |",
    ]


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ((SPEED, WAIT), []),
        (
            (Figure("engine", "batch 4", (28.0,), "frames/s", "more"), Figure("worker", "p99", (91.0,), "ms", "less")),
            [],
        ),
        ((Figure("engine", "batch 4", (20.0,), "frames/s", "more"), WAIT), ["engine: batch 4"]),
        ((SPEED, Figure("worker", "p99", (160.0,), "ms", "less")), ["worker: p99"]),
        ((Figure("engine", "batch 64", (1.0,), "frames/s", "more"),), []),  # never measured before
    ],
)
def test_what_is_clearly_worse_than_before_is_told(tmp_path: Path, now: tuple[Figure, ...], told: list[str]) -> None:
    history = tmp_path / "results" / "history.jsonl"
    for _ in range(3):
        figures.remember([SPEED, WAIT], history)
    found = figures.regressions(now, history)
    assert [sentence.rpartition(":")[0] for sentence in found] == told


def test_figures_of_another_machine_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = tmp_path / "history.jsonl"
    monkeypatch.setattr(figures, "machine", lambda: "a large one")
    figures.remember([Figure("engine", "batch 4", (3000.0,), "frames/s", "more")], history)
    monkeypatch.setattr(figures, "machine", lambda: "a small one")
    assert figures.regressions([SPEED], history) == []


def test_other_programs_get_every_value() -> None:
    document = json.loads(figures.to_json([SPEED]))
    assert document["figures"][0]["values"] == [30.0, 33.0, 31.0]
    assert "cores" in document["machine"]
