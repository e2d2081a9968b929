"""The accuracy table of docs/method.md is that of the runs kept beside the benchmark."""

from __future__ import annotations

from pathlib import Path

from benchmarks.accuracy import read_rows, table

ROOT = Path(__file__).parents[2]


def test_the_table_is_that_of_the_runs() -> None:
    rows = read_rows(ROOT / "benchmarks/results/accuracy/results.jsonl")
    wanted = [line for line in table(rows, ["magnetic_tile", "screw"]).splitlines() if line.startswith(("| ", "- "))]
    assert len(wanted) > 8
    said = (ROOT / "docs/method.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in said if line in wanted] == wanted
