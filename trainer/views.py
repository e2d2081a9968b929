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
from worker.contract.fitting import auroc, weigh
from worker.contract.framing import Framing
from worker.contract.preprocess import Region
from worker.contract.scoring import combine, fit_scale

_MOST_LEARNED, _MOST_CHOOSING = 100, 40  # pictures of a product: enough to compare by
_GAIN = 0.01  # AUROC: less is not worth four times the engine's time
_SCORING = ScoringSettings()


def four_views_pay(encoder: Encoder, parts: GoodParts, framing: Framing, region: Region | None) -> tuple[bool, str]:
    """Whether a bank finds clearly more of the anomalies pasted into held-out pictures with four views than with one.

    The held-out pictures are those to choose by, so none of them calibrates. Leaves `encoder` in evaluation mode.

    Returns:
        Whether it does, and a sentence for a person.
    """
    one, four = pasted_found(encoder, parts, framing, region, 1), pasted_found(encoder, parts, framing, region, 4)
    pays = four >= one + _GAIN
    found = f"four views find {four:.3f} of the anomalies pasted into held-out pictures, one view {one:.3f} (AUROC)"
    return pays, f"{found}: {'four views are' if pays else 'one view is'} used"


def pasted_found(
    encoder: Encoder, parts: GoodParts, framing: Framing, region: Region | None, views: Literal[1, 4]
) -> float:
    """The AUROC, a mean over the products, of a bank of so many views on anomalies pasted into held-out pictures."""
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
    return float(
        np.mean(
            [
                auroc(*(combine(raw, fit_scale(good), votes) for raw in (good, bad)))
                for good, bad in zip(clean, spoiled, strict=True)
            ]
        )
    )
