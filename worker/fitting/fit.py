"""Fits a bank: good pictures through the engine that will serve, in three parts that share no picture.

The first part becomes what good parts look like. By the second, and by anomalies pasted into it, the detectors are
weighed and brought to one scale; then it joins the first. The third gives the scores from which thresholds are made.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from quarterturn.worker.contract.arrays import Array, Picture
from quarterturn.worker.contract.bank import Bank, BankManifest, Calibration, ScoringSettings
from quarterturn.worker.contract.bank_tensors import needed
from quarterturn.worker.contract.detectors import LEARNED, Normal
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.framing import Layout
from quarterturn.worker.contract.gallery import Gallery
from quarterturn.worker.contract.picture import BitDepth, Region
from quarterturn.worker.contract.registration import Registration
from quarterturn.worker.contract.times import now
from quarterturn.worker.contract.traits import PictureTraits
from quarterturn.worker.engine.base import Engine
from quarterturn.worker.fitting.embedder import Embedder, OnProgress
from quarterturn.worker.fitting.gallery import name_of, with_gallery
from quarterturn.worker.fitting.normal import NormalFit, weigh
from quarterturn.worker.fitting.sights import Sight, guard_of, tell_unusable
from quarterturn.worker.fitting.split import Paths, Split, require_enough
from quarterturn.worker.inspection.scorer import Scorer
from quarterturn.worker.inspection.scoring import fit_scale, turn_ratio
from quarterturn.worker.pictures.read import depth_doubt

log = logging.getLogger(__name__)


def fit_bank(
    engine: Engine,
    split: Split,
    scoring: ScoringSettings,
    overkill: float,
    *,
    region: Region | None = None,
    bit_depth: BitDepth | None = None,
    on_progress: OnProgress | None = None,
) -> Bank:
    """Fit and calibrate a bank.

    Args:
        engine: the engine that will serve; the bank is bound to its hash.
        split: the pictures; products need not be those of training.
        scoring: how distances become a score.
        overkill: the share of good parts that may be rejected; the calibration must be able to promise it.
        region: the part of each picture to look at; give the worker's cameras the same.
        bit_depth: of samples that lie in 16 bits; give the worker's cameras the same.
        on_progress: called with the number of pictures that were just embedded.

    Example, with an `engine` and good pictures in the folder `ring`:
        >>> split = split_pictures(Path("ring"), calibration=None, holdout=0.5)
        >>> bank = fit_bank(engine, split, ScoringSettings(coreset=100), overkill=0.05)
        >>> bank.products
        ('ring',)

    Raises:
        DataError: a picture cannot be read, or a product has too few for `overkill`.
        ConfigError: a detector is asked for that this engine does not support.
    """
    require_enough(split, overkill)
    if doubt := next(filter(None, (depth_doubt(paths[0], bit_depth) for paths in split.normal.values())), ""):
        log.warning("%s", doubt)
    embedder = Embedder(engine.spec, engine.embed, region, bit_depth, on_progress)
    _require_offered(embedder.detectors, scoring)
    fits, before = _learn(embedder, split, scoring)
    detectors = _detectors(embedder, fits.values(), scoring)
    weighed = _weigh(embedder, before, split.weighing, scoring, detectors)
    learned = {product: [*split.normal[product], *split.weighing[product]] for product in fits}
    seen = {product: [embedder.sights[path] for path in paths] for product, paths in learned.items()}
    guard = np.stack([guard_of(sights) for sights in seen.values()])
    manifest = BankManifest(
        spec=engine.spec,
        engine=engine.hash,
        target=engine.target,
        products=tuple(fits),
        scoring=scoring,
        votes=weighed.votes,
        found=weighed.found,
        pictures=PictureTraits.of(sight.traits for sights in seen.values() for sight in sights),
        region=region,
        bit_depth=bit_depth,
        overkill=overkill,
        created_at=now(),
    )
    built = {product: fit.build(needed(weighed.votes)) for product, fit in fits.items()}
    normals, gallery = zip(
        *(_shown(embedder, normal, learned[product]) for product, normal in built.items()), strict=True
    )
    registrations = tuple(_registered(embedder, split, product) for product in fits)
    uncalibrated = Bank(manifest, normals, weighed.scales, (), guard, registrations, gallery)
    calibration = tuple(
        calibrate(
            uncalibrated,
            c,
            embedder.embed(embedder.read(paths := split.calibration[product])),
            (embedder.sights[path] for path in paths),
        )
        for c, product in enumerate(fits)
    )
    for product, limits in zip(fits, guard, strict=True):
        tell_unusable(embedder.sights, split.calibration[product], limits)
    return replace(uncalibrated, calibration=calibration)


def _shown(embedder: Embedder, normal: Normal, paths: Sequence[Path]) -> tuple[Normal, Gallery]:
    """The good parts of pictures that were added in this order, with small copies of those that are to be shown."""

    def read(numbers: Sequence[int]) -> Iterator[Picture]:
        return itertools.chain.from_iterable(embedder.read([paths[number] for number in numbers]))

    return with_gallery(normal, [name_of(path) for path in paths], read)


def _registered(embedder: Embedder, split: Split, product: str) -> Registration:
    """Where the good parts of a product lie in their pictures."""
    return Registration.fit(
        *([embedder.sights[path].small for path in one[product]] for one in (split.normal, split.weighing))
    )


def _learn(
    embedder: Embedder, split: Split, scoring: ScoringSettings
) -> tuple[dict[str, NormalFit], dict[str, Normal]]:
    """By product, what all pictures but those to calibrate look like, and what those look like that weigh nothing."""
    fits = {product: embedder.fit(paths, scoring.coreset) for product, paths in split.normal.items()}
    before: dict[str, Normal] = {product: fit.build(_asked(scoring)) for product, fit in fits.items()}
    for product, fit in fits.items():
        for embeddings, layouts in embedder.embed_to_learn(embedder.read(split.weighing[product])):
            fit.add(embeddings, layouts)
    return fits, before


def _asked(scoring: ScoringSettings) -> Sequence[str] | None:
    """The detectors that are named by hand, None where all are to be weighed."""
    return None if scoring.detectors == "auto" else scoring.detectors


@dataclass(frozen=True)
class _Weighed:
    """The detectors in use with their votes, how well each found pasted anomalies, and the (C, K, 2) scales."""

    votes: dict[str, float]
    found: dict[str, float]
    scales: Array


def _detectors(embedder: Embedder, fits: Iterable[NormalFit], scoring: ScoringSettings) -> list[str]:
    """Those asked for, or all, of the detectors that the engine and the pictures of every product support.

    Raises:
        ConfigError: another one is asked for.
    """
    fitted = set.intersection(*(set(fit.detectors) for fit in fits)) | {LEARNED}
    available = [one for one in embedder.detectors if one in fitted]
    _require_offered(available, scoring)
    asked = _asked(scoring)
    return [one for one in available if asked is None or one in asked]


def _require_offered(available: Sequence[str], scoring: ScoringSettings) -> None:
    if unsupported := sorted({*(_asked(scoring) or ())} - {*available}):
        raise ConfigError(
            f"scoring.detectors: this engine and framing offer {', '.join(available)}, not {unsupported[0]}; "
            "take it out, or build an engine of a model that has it"
        )


def _weigh(
    embedder: Embedder, normals: Mapping[str, Normal], weighing: Paths, scoring: ScoringSettings, detectors: list[str]
) -> _Weighed:
    """Weigh the detectors by the pictures `weighing`, which are new to `normals`; those set by hand count alike."""

    def distances(pictures: Callable[[Sequence[Path]], Iterator[list[Picture]]]) -> list[Array]:
        return [
            embedder.distances(pictures(weighing[product]), normal, scoring, detectors)
            for product, normal in normals.items()
        ]

    clean = distances(embedder.read)
    scales = np.stack([fit_scale(one) for one in clean])
    if scoring.detectors != "auto":
        return _Weighed({one: 1 / len(detectors) for one in detectors}, {}, scales)
    votes, found = weigh(detectors, clean, distances(embedder.pasted))
    return _Weighed(votes, found, scales)


def calibrate(
    bank: Bank, product: int, batches: Iterator[tuple[Embeddings, list[Layout]]], sights: Iterable[Sight]
) -> Calibration:
    """The calibration of `product` (its index) from the embeddings of good pictures that are new to the bank.

    `sights` are those of the same pictures; they are asked for when all batches are through.
    """
    scorer = Scorer(bank.of_products([product]))
    scored = [one for embeddings, layouts in batches for one in scorer.score(embeddings, layouts)]
    whole = [one.appearance for one in scored]
    ratios = [turn_ratio(lies) for one in scored if (lies := one.orientations(0)) is not None]
    seen, registration = [*sights], bank.registrations[product]
    numbers = (
        [one.scores[0] for one in scored],
        [one.distance[0] for one in whole],
        ratios,
        [one.measured for one in seen],
        [registration.motion(one.small) for one in seen],
    )
    return Calibration(*(np.array(one, np.float32) for one in numbers))
