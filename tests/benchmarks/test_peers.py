from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers


@dataclass
class Known:
    """A model that scores so fast in each round."""

    out: Path
    speeds: Iterator[float]
    auroc: float
    fits: int = 0

    def fit(self) -> peers.Found:
        self.fits += 1
        return {"fit_s": 12.5}

    def score(self) -> peers.Found:
        return {"auroc": self.auroc, "pictures_per_s": next(self.speeds)}


def test_models_are_fitted_once_and_scored_in_turn(tmp_path: Path) -> None:
    ours = Known(tmp_path / "ours", iter((100.0, 80.0, 90.0)), 0.95)
    other = Known(tmp_path / "other", iter((20.0, 20.0, 9.0)), math.nan)
    models: dict[str, peers.Model] = {"quarterturn, one view": ours, "other": other}
    found = {one.name: one.values for one in peers.measure("a/b", models, 2)}
    assert found["a/b, other: speed"] == (20, 20)
    assert found["a/b, other: of our speed in one view"] == (0.2, 0.25)
    assert found["a/b, quarterturn, one view: AUROC"] == (0.95, 0.95)
    assert found["a/b, other: fit"] == (12.5,)
    assert "a/b, other: AUROC" not in found, "what has none"
    peers.measure("a/b", models, 1)
    assert (ours.fits, other.fits) == (1, 1)


def test_without_rounds_they_are_only_fitted(tmp_path: Path) -> None:
    one = Known(tmp_path / "one", iter(()), 0.9)
    assert peers.measure("a/b", {"quarterturn, one view": one}, 0) == []
    assert one.fits == 1
