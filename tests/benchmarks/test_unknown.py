from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import unknown


def products_of(count: int, spread: float, seed: int = 0) -> dict[str, unknown.Known]:
    """Products whose features lie around points of their own; each quarter turn and mirror image a little apart."""
    rng = np.random.default_rng(seed)
    known = {}
    for number in range(count):
        middle, turns = rng.normal(size=12), 0.5 * rng.normal(size=(8, 12))

        def draw(*shape: int, middle: np.ndarray = middle, turns: np.ndarray = turns) -> torch.Tensor:
            views = turns[: shape[-1]]
            return torch.from_numpy(middle + views + spread * rng.normal(size=(*shape, 12))).float()

        known[f"p{number}"] = unknown.Known(draw(40, 2, 4), draw(40, 8), draw(20, 8))
    return known


@pytest.mark.parametrize("name", [*unknown.VARIANTS, unknown.SUPERVISED, unknown.RAW])
def test_an_unknown_product_far_from_the_others_is_told(name: str) -> None:
    known = products_of(4, spread=0.1)
    found = unknown.left_out(known, "p2", name, seed=0)
    assert len(found) == len(unknown.VIEWS)
    assert min(found) > 0.9


def test_a_product_that_is_another_s_twin_is_not() -> None:
    known = products_of(3, spread=0.1)
    known["twin"] = known["p0"]
    assert unknown.left_out(known, "twin", unknown.RAW, seed=0)[0] == pytest.approx(0.5, abs=0.15)


def test_the_supervised_loss_is_that_of_its_paper() -> None:
    torch.manual_seed(0)
    indices, pooled = np.array([0, 1, 2]), torch.randn(2, 12, 5, dtype=torch.float64)
    products = np.array([0, 1, 0])
    stage = SimpleNamespace(
        views=SimpleNamespace(draw=lambda _: (indices, pooled)),
        encoder=SimpleNamespace(project=lambda features: features),
        products=products,
    )
    rows = pooled.flatten(0, 1).numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    labels = [(products[sample // 4], sample % 4) for _ in range(2) for sample in range(12)]
    total = 0.0
    for i, mine in enumerate(labels):
        others = [j for j in range(len(rows)) if j != i]
        whole = sum(math.exp(rows[i] @ rows[j] / unknown.TAU) for j in others)
        positives = [j for j in others if labels[j] == mine]
        total -= sum(math.log(math.exp(rows[i] @ rows[j] / unknown.TAU) / whole) for j in positives) / len(positives)
    assert float(unknown.supervised(stage, 0)) == pytest.approx(total / len(rows))  # type: ignore[arg-type]


def test_tables_say_means_and_ranges() -> None:
    lines = unknown.table({"one": {1: [0.9, 0.8], 4: [1.0]}}, 6).splitlines()
    assert lines[-1].startswith("| one | 0.850 (0.800–0.900) | 1.000 |")
