"""From embeddings to scores: distances to the bank, aggregated over views and positions.

Shapes: B frames, C products, V views, P positions, D dimensions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from worker.contract.bank import Array, Bank, ScoringSettings
from worker.contract.views import compose, place_order

_TINY = np.float32(1e-12)  # a distance of exactly 0 stays finite in the harmonic mean


def distances(embeddings: Array, bank: Bank) -> Array:
    """(B, V, P, D) embeddings -> (B, C, V, P) distances of every view and position to every product's bank.

    mahalanobis: ‖W(z − μ)‖₂ (arXiv 2105.08793, section 4.3, with the whitening W = L⁻¹ of the shrunk covariance).
    knn: 1 − the mean cosine to the `neighbours` nearest normal embeddings.
    """
    if bank.manifest.scoring.method == "mahalanobis":
        return _mahalanobis(embeddings, bank)
    return _knn(embeddings, bank)


def _mahalanobis(embeddings: Array, bank: Bank) -> Array:
    gaussians = bank.gaussians
    difference = embeddings[:, None] - gaussians.mean  # (B, C, V, P, D)
    rows = difference.transpose(1, 2, 3, 0, 4)  # (C, V, P, B, D): one matrix product per Gaussian for the whole batch
    whitened = rows @ gaussians.whitening.swapaxes(-1, -2)
    return np.asarray(np.sqrt(np.square(whitened).sum(axis=-1)).transpose(3, 0, 1, 2), np.float32)


def _knn(embeddings: Array, bank: Bank) -> Array:
    batch, views, positions, _ = embeddings.shape
    result = np.empty((batch, len(bank.products), views, positions), np.float32)
    queries = embeddings.transpose(1, 2, 0, 3)  # (V, P, B, D)
    for c, normal in enumerate(bank.embeddings):
        cosines = queries @ normal.transpose(1, 2, 3, 0)  # (V, P, B, n)
        k = min(bank.manifest.scoring.neighbours, len(normal))
        nearest = np.partition(cosines, -k, axis=-1)[..., -k:]
        result[:, c] = 1 - nearest.mean(axis=-1).transpose(2, 0, 1)
    return np.maximum(result, 0)  # the cosine of a vector with itself may round to just above 1


def aggregate(values: Array, how: str, axis: int = -1) -> Array:
    """Aggregate distances over the views: `harmonic` (V / Σ 1/d, the paper's weighted average), `mean` or `min`."""
    if how == "harmonic":
        inverse: Array = 1 / np.maximum(values, _TINY)
        return np.asarray(values.shape[axis] / inverse.sum(axis=axis), np.float32)
    if how == "mean":
        return np.asarray(values.mean(axis=axis), np.float32)
    return np.asarray(values.min(axis=axis), np.float32)


def scores(view_distances: Array, scoring: ScoringSettings) -> Array:
    """(..., V, P) distances -> (...) scores: over the views at each position, then the worst position."""
    return np.asarray(aggregate(view_distances, scoring.aggregate, axis=-2).max(axis=-1), np.float32)


def turn_ratios(embeddings: Array, bank: Bank, product: int) -> npt.NDArray[np.float32]:
    """(B, V, P, D) embeddings -> (B,): the score as the part lies, divided by the best score of all other orientations.

    If the part lies turned by g, its view v looks like view v∘g of a part that lies right. A ratio above 1 says that
    some other orientation explains the frame better. Empty where V < 4 (turns were not told apart in training).
    """
    _, views, positions, _ = embeddings.shape
    if views < 4:
        return np.empty(0, np.float32)
    table, places = compose(views), place_order(views, positions)
    by_orientation = []
    for g in range(views):
        as_turned = np.empty_like(embeddings)
        as_turned[:, table[:, g]] = embeddings[:, :, places[g]]
        by_orientation.append(scores(distances(as_turned, bank)[:, product], bank.manifest.scoring))
    others = np.min(by_orientation[1:], axis=0)
    return np.asarray(by_orientation[0] / np.maximum(others, _TINY), np.float32)
