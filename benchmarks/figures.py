"""Figures that benchmarks find: as a Markdown table, as JSON, and beside those that this machine gave before."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from quarterturn.worker.contract.times import now

HISTORY = Path(__file__).parent / "results" / "history.jsonl"

_REMEMBERED = 5  # runs of this machine that a figure is compared with
_WORSE = 1.15  # times, against their median: less is this machine's mood


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured: the median of `values`, of which `better` says which way is good."""

    part: str
    name: str
    values: tuple[float, ...]
    unit: str
    better: Literal["more", "less"]

    @property
    def median(self) -> float:
        """What is quoted."""
        return statistics.median(self.values)


def table(figures: Sequence[Figure]) -> str:
    """A Markdown table: each figure's median and range."""
    lines = ["| part | figure | median | range | unit |", "|---|---|---:|---:|---|"]
    for one in figures:
        spread = f"{min(one.values):.3g} to {max(one.values):.3g}" if len(one.values) > 1 else ""
        lines.append(f"| {one.part} | {one.name} | {one.median:.3g} | {spread} | {one.unit} |")
    return "\n".join(lines) + "\n"


def machine() -> str:
    """The processor's name and how many of its cores are ours: figures of another machine are not compared."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(("model name", "Model"))]
    return f"{names[0] if names else 'unknown'}, {text.count('processor')} cores"


def regressions(figures: Iterable[Figure], history: Path = HISTORY) -> list[str]:
    """One sentence for each figure that is clearly worse than this machine's last runs."""
    before = [entry for entry in _entries(history) if entry["machine"] == machine()]
    found = []
    for one in figures:
        known = [entry["figures"][key] for entry in before if (key := _key(one)) in entry["figures"]][-_REMEMBERED:]
        if not known or not one.median or not (usual := statistics.median(known)):
            continue
        times = usual / one.median if one.better == "more" else one.median / usual
        if times > _WORSE:
            found.append(f"{_key(one)}: {one.median:.3g} {one.unit}, {times:.2f} times worse than usual ({usual:.3g})")
    return found


def remember(figures: Iterable[Figure], history: Path = HISTORY) -> None:
    """Append the medians to the history, with the commit that they are of."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    entry: dict[str, Any] = {"at": now(), "commit": commit, "machine": machine()}
    entry |= {"figures": {_key(one): round(one.median, 6) for one in figures}}
    history.parent.mkdir(parents=True, exist_ok=True)
    with history.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(entry) + "\n")


def to_json(figures: Iterable[Figure]) -> str:
    """Everything measured, for other programs."""
    return json.dumps({"machine": machine(), "figures": [asdict(one) for one in figures]}, indent=2) + "\n"


def _entries(history: Path) -> list[dict[str, Any]]:
    if not history.exists():
        return []
    return [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]


def _key(figure: Figure) -> str:
    return f"{figure.part}: {figure.name}"
