"""What an encoder is worth on the parts at hand, without any real defect: how well it finds pasted ones."""

from __future__ import annotations

import numpy as np

from trainer.data import GoodParts
from trainer.encoder import Encoder, embed_views
from worker.contract.bank import ScoringSettings
from worker.contract.detectors import DETECTORS, Array, Detector
from worker.contract.embedder import Embedder
from worker.contract.fitting import choose_detectors
from worker.contract.framing import Frames, Framing
from worker.contract.manifest import EmbeddingSpec
from worker.contract.pictures import split_held_out
from worker.contract.preprocess import Region

_MOST = 200  # pictures of a product that become its bank here: enough to compare by
_SCORING = ScoringSettings()
_MISSES_LEFT = 0.75  # of an untrained encoder's


def training_paid(trained: float, untrained: float) -> bool:
    """Whether a trained encoder misses less than three quarters of what an untrained one misses; by their worth.

    Fewer is not enough: it was trained on pasted defects, and real ones are further from what it knows.
    """
    return 1 - trained < _MISSES_LEFT * (1 - untrained)


def measure_worth(encoder: Encoder, parts: GoodParts, framing: Framing, region: Region | None) -> float:
    """The AUROC with which a bank on `encoder` finds defects pasted into held-out good pictures.

    Of one view, by the detectors that serve best, a mean over the products; the pictures are those that `quarterturn
    bank fit` chooses by, so none of them calibrates. Leaves `encoder` in evaluation mode.
    """

    def embed(frames: Frames) -> Array:
        return np.concatenate([embed_views(encoder, frames[n : n + 16], 1) for n in range(0, len(frames), 16)])

    architecture = encoder.architecture
    spec = EmbeddingSpec(
        framing=framing,
        views=1,
        positions=architecture.positions(framing.side),
        dimensions=architecture.dimensions,
        learned=architecture.local,
    )
    embedder = Embedder(spec, embed, region)
    clean, spoiled = [], []
    detectors: list[Detector] = []
    for learned, held_out in zip(parts.learned, parts.held_out, strict=True):
        normal = embedder.fit(learned[:_MOST], _SCORING.coreset)
        detectors = [one for one in DETECTORS if one in normal.detectors or (one == "learned" and spec.learned)]
        choice, _ = split_held_out(held_out)
        clean.append(embedder.distances(embedder.read(choice), normal, _SCORING, detectors))
        spoiled.append(embedder.distances(embedder.spoiled(choice), normal, _SCORING, detectors))
    chosen, table = choose_detectors(detectors, clean, spoiled)
    return table["+".join(chosen)]
