"""The accuracy table of docs/method.md is that of the runs kept beside the benchmark."""

from __future__ import annotations

from pathlib import Path

from benchmarks.accuracy import read_rows, table

ROOT = Path(__file__).parents[2]
CHOSEN_ON = ["magnetic_tile", "screw"]
MARKER = "<!-- results -->"  # stands in the table's place until there are runs


def test_the_table_is_that_of_the_runs() -> None:
    rows = read_rows(ROOT / "benchmarks/results/accuracy/results.jsonl")
    lines = table(rows, CHOSEN_ON).splitlines() if rows else [MARKER]
    wanted = [line for line in lines if line.startswith(("| ", "- ", MARKER))]
    page = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    result = page.partition("\n## Result\n")[2].partition("\n##")[0]
    assert [line for line in result.splitlines() if line in wanted] == wanted
    assert rows or "\n| " not in result, "figures without the runs behind them"
