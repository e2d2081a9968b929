"""Embeddings of parts, and banks of them, without an engine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from quarterturn.worker.contract.bank import Bank, BankManifest, ScoringSettings
from quarterturn.worker.contract.detectors import Normal
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.framing import WHOLE, Framing, Layout
from quarterturn.worker.contract.manifest import Depth, EmbeddingSpec
from quarterturn.worker.fitting.normal import NormalFit
from tests.parts import LEARNED_FROM, any_picture, nowhere

Doubles = npt.NDArray[np.float64]
TILED = Layout(16, 30, ((0, 0), (0, 9), (0, 14)))  # three tiles, two or three of them on some places
BOXED = Layout(16, 9, ((0, -3),))  # one tile, margins left and right
FOUR = Layout(30, 30, ((0, 0), (0, 14), (14, 0), (14, 14)))
SPEC = EmbeddingSpec(
    framing=Framing(side=32),
    views=4,
    frame=5,
    places={"middle": Depth(grid=4, dimensions=3), "deep": Depth(grid=2, dimensions=4)},
    logits=32,
)


def parts(rng: np.random.Generator, count: int, products: int = 3) -> list[Embeddings]:
    """`count` good parts of each product."""
    each = []
    for _ in range(products):
        found = {}
        for name, shape in SPEC.outputs.items():
            found[name] = np.asarray(2 * rng.normal(size=shape) + rng.normal(size=(count, *shape)), np.float32)
        each.append(found)
    return each


def normal_of(embeddings: Embeddings, spec: EmbeddingSpec = SPEC) -> Normal:
    """What good parts look like, as a product would be fitted from them."""
    count = len(embeddings["frame"])
    fit = NormalFit(spec, count, 50)
    fit.add(embeddings, [WHOLE] * count)
    return fit.build()


def bank_from(
    normals: Sequence[Normal], detectors: Sequence[str] = ("frame",), spec: EmbeddingSpec = SPEC, **scoring: Any
) -> Bank:
    """A bank without calibration; each detector's scale is another one, and each has one vote more than that before."""
    votes = {one: (k + 1) / sum(range(len(detectors) + 1)) for k, one in enumerate(detectors)}
    manifest = BankManifest(
        spec=spec,
        engine="engine",
        target="numpy",
        products=tuple(f"product {c}" for c in range(len(normals))),
        scoring=ScoringSettings.model_validate(scoring),
        votes=votes,
        **LEARNED_FROM,
        created_at="",
    )
    scales = np.random.default_rng(9).uniform(0.2, 1.5, (len(normals), len(detectors), 2)).astype(np.float32)
    return Bank(manifest, tuple(normals), scales, (), any_picture(len(normals)), nowhere(len(normals)), ())


def score_of(distances: Iterable[float], scale: npt.NDArray[Any], votes: Sequence[float]) -> float:
    """The mean of the rarities above by the votes, and the largest below, beyond the lowest one in a thousand."""
    above, below = [], []
    for value, (median, spread) in zip(distances, scale.tolist(), strict=True):
        good = stats.logistic(median, spread)
        above.append(-good.logsf(value))
        below.append(-stats.logistic(good.ppf(0.001), spread).logcdf(value))
    return float(np.average(above, weights=votes) + max(below)) / math.log(10)
