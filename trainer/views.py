"""How many views an engine of the model should score: measured without any real defect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from trainer.data import GoodParts
from trainer.encoder import Encoder, embed_views
from worker.contract.bank import ScoringSettings
from worker.contract.detectors import LEARNED, Normal
from worker.contract.embedder import Embedder
from worker.contract.embeddings import Array, Embeddings
from worker.contract.fitting import weigh
from worker.contract.framing import Framing, Layout, Picture
from worker.contract.preprocess import Region
from worker.contract.scoring import combine, fit_scale, read

_MOST_LEARNED, _MOST_CHOOSING = 100, 40  # pictures of a product: enough to compare by
_GAIN = 0.1  # of the separation, or of one spread: less is not worth four times the engine's time, see decision 25
_LEAST_SPREAD = 1e-3  # of scores, in log10: good pictures that are all the same
_SCORING = ScoringSettings()


def four_views_pay(encoder: Encoder, parts: GoodParts, framing: Framing, region: Region | None) -> tuple[bool, str]:
    """Whether anomalies pasted into held-out pictures stand out clearly more from good ones with four views than one.

    The held-out pictures are those to choose by, so none of them calibrates. Leaves `encoder` in evaluation mode.

    Returns:
        Whether they do, and a sentence for a person.
    """
    one, four = separations(encoder, parts, framing, region)
    pays = four - one >= _GAIN * max(one, 1)  # where one view finds nothing, chance decides nothing
    found = f"anomalies pasted into held-out pictures stand out by {four:.1f} spreads in four views, {one:.1f} in one"
    return pays, f"{found}: {'four views are' if pays else 'one view is'} used"


def separations(encoder: Encoder, parts: GoodParts, framing: Framing, region: Region | None) -> tuple[float, float]:
    """By how much anomalies pasted into held-out pictures stand out from good ones, in one view and in four.

    Between the medians of their scores, in distances from the median of the good ones to their 90% quantile: unlike the
    AUROC it goes on rising where every anomaly is found. A mean over the products.
    """
    embedder = Embedder(encoder.spec(framing, 4), lambda frames: embed_views(encoder, frames, 4), region)
    learned = [paths[:: 1 + len(paths) // _MOST_LEARNED] for paths in parts.learned]
    choosing = [paths[:_MOST_CHOOSING] for paths in parts.to_choose]
    normals: list[Normal] = [embedder.fit(paths, _SCORING.coreset).build() for paths in learned]
    detectors = [one for one in embedder.detectors if one == LEARNED or all(one in normal for normal in normals)]

    def distances(pictures: Callable[[Sequence[Path]], Iterator[list[Picture]]]) -> list[tuple[Array, Array]]:
        """For each product (n, K) of one view, (n, K) of four."""
        return [
            _distances(embedder.embed(pictures(paths)), normal, detectors)
            for paths, normal in zip(choosing, normals, strict=True)
        ]

    clean, spoiled = distances(embedder.read), distances(embedder.spoiled)
    one, four = (
        _separation(detectors, [each[views] for each in clean], [each[views] for each in spoiled]) for views in range(2)
    )
    return one, four


def _distances(
    batches: Iterator[tuple[Embeddings, list[Layout]]], normal: Normal, detectors: Sequence[str]
) -> tuple[Array, Array]:
    """(n, K) the distances of the pictures in one view, and in four; what is known of four serves both."""
    one, four = [], []
    for embeddings, layouts in batches:
        first = {name: values[:, :1] for name, values in embeddings.items()}
        one += read(first, layouts, [normal], _SCORING, detectors)
        four += read(embeddings, layouts, [normal], _SCORING, detectors)
    return np.concatenate([reading.raw for reading in one]), np.concatenate([reading.raw for reading in four])


def _separation(detectors: Sequence[str], clean: Sequence[Array], spoiled: Sequence[Array]) -> float:
    """The mean separation of the products' scores, with votes of their own."""
    votes = list(weigh(detectors, clean, spoiled)[0].values())
    return float(
        np.mean(
            [
                _apart(*(combine(raw, fit_scale(good), votes) for raw in (good, bad)))
                for good, bad in zip(clean, spoiled, strict=True)
            ]
        )
    )


def _apart(good: Array, bad: Array) -> float:
    middle, high = np.quantile(good, (0.5, 0.9))
    return float((np.median(bad) - middle) / max(high - middle, _LEAST_SPREAD))
