"""How many views an engine of the model should score: measured without any real defect."""

from __future__ import annotations

from typing import Literal

import numpy as np

from trainer.data import GoodParts
from trainer.encoder import Encoder, embed_views
from worker.contract.bank import ScoringSettings
from worker.contract.detectors import LEARNED, Normal
from worker.contract.embedder import Embedder
from worker.contract.embeddings import Array
from worker.contract.fitting import weigh
from worker.contract.framing import Framing
from worker.contract.preprocess import Region
from worker.contract.scoring import combine, fit_scale

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
    one, four = separation(encoder, parts, framing, region, 1), separation(encoder, parts, framing, region, 4)
    pays = four - one >= _GAIN * max(one, 1)  # where one view finds nothing, chance decides nothing
    found = f"anomalies pasted into held-out pictures stand out by {four:.1f} spreads in four views, {one:.1f} in one"
    return pays, f"{found}: {'four views are' if pays else 'one view is'} used"


def separation(
    encoder: Encoder, parts: GoodParts, framing: Framing, region: Region | None, views: Literal[1, 4]
) -> float:
    """By how much anomalies pasted into held-out pictures stand out from good ones, with a bank of so many views.

    Between the medians of their scores, in distances from the median of the good ones to their 90% quantile: unlike the
    AUROC it goes on rising where every anomaly is found. A mean over the products.
    """
    spec = encoder.spec(framing, views)
    embedder = Embedder(spec, lambda frames: embed_views(encoder, frames, views), region)
    learned = [paths[:: 1 + len(paths) // _MOST_LEARNED] for paths in parts.learned]
    choosing = [paths[:_MOST_CHOOSING] for paths in parts.to_choose]
    normals: list[Normal] = [embedder.fit(paths, _SCORING.coreset).build() for paths in learned]
    detectors = [one for one in embedder.detectors if one == LEARNED or all(one in normal for normal in normals)]

    def distances(spoiled: bool) -> list[Array]:
        read = embedder.spoiled if spoiled else embedder.read
        return [
            embedder.distances(read(paths), normal, _SCORING, detectors)
            for paths, normal in zip(choosing, normals, strict=True)
        ]

    clean, spoiled = distances(spoiled=False), distances(spoiled=True)
    votes = list(weigh(detectors, clean, spoiled)[0].values())
    scores = [
        [combine(raw, fit_scale(good), votes) for raw in (good, bad)] for good, bad in zip(clean, spoiled, strict=True)
    ]
    return float(np.mean([_apart(good, bad) for good, bad in scores]))


def _apart(good: Array, bad: Array) -> float:
    middle, high = np.quantile(good, (0.5, 0.9))
    return float((np.median(bad) - middle) / max(high - middle, _LEAST_SPREAD))
