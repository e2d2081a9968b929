"""Fits a bank: good pictures through the engine that will serve, in three parts that share no picture.

The first part becomes what good parts look like. By the second, and by anomalies pasted into it, the detectors are
weighed and brought to one scale; then it joins the first. The third gives the scores from which thresholds are made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from worker.config import EngineSettings, Overkill
from worker.contract.bank import Bank, BankManifest, Calibration, ScoringSettings, needed, read_bank
from worker.contract.calibration import conformal_threshold
from worker.contract.detectors import LEARNED, Normal
from worker.contract.embedder import SPOILED, Embedder, OnProgress
from worker.contract.embeddings import Array, Embeddings
from worker.contract.errors import ConfigError, DataError
from worker.contract.fitting import NormalFit, weigh
from worker.contract.framing import Layout, Picture
from worker.contract.pictures import good_pictures, hold_out, split_held_out
from worker.contract.preprocess import Region
from worker.contract.scoring import appearances, fit_scale, frame_scores, read_frames, turn_ratio
from worker.contract.settings import Settings
from worker.engine.base import Engine
from worker.events import now

Paths = Mapping[str, Sequence[Path]]


class FitSettings(Settings):
    """`configs/bank.yaml`."""

    data: Path
    engine: EngineSettings
    calibration: Path | None = None
    scoring: ScoringSettings = ScoringSettings()
    overkill: Overkill = 0.005
    region: Region | None = None
    out: Path = Path("bank.safetensors")


@dataclass(frozen=True)
class Split:
    """Good pictures by product: to learn from, to weigh detectors by, to calibrate with. No picture is in two."""

    normal: Paths
    weighing: Paths
    calibration: Paths

    def total(self, scoring: ScoringSettings) -> int:
        """How many pictures pass through the engine; those to weigh by do so several times, also spoiled if need be."""
        copies = 2 + (SPOILED if scoring.detectors == "auto" else 0)
        return sum(
            len(paths) * times
            for part, times in ((self.normal, 1), (self.weighing, copies), (self.calibration, 1))
            for paths in part.values()
        )


def split_pictures(data: Path, calibration: Path | None, holdout: float) -> Split:
    """Choose the pictures for a bank.

    Without a `calibration` folder, the share `holdout` that training held out (the same pictures, see
    `worker.contract.pictures.hold_out`) serves for weighing and calibration, and the others become the bank.

    Raises:
        DataError: a folder is empty, its products differ from the other's, or no picture is left to calibrate with.
    """
    pictures = good_pictures(data)
    if calibration is not None:
        normal, held_out = pictures, _pictures_like(pictures, data, calibration)
    elif holdout == 0:
        raise DataError(
            f"{data}: training held out no picture (holdout: 0), so none is left to calibrate with; "
            "name another folder of good pictures with 'calibration', or train with a holdout"
        )
    else:
        parts = {product: hold_out(paths, holdout) for product, paths in pictures.items()}
        normal = {product: learned for product, (learned, _) in parts.items()}
        held_out = {product: unseen for product, (_, unseen) in parts.items()}
    halves = {product: split_held_out(paths) for product, paths in held_out.items()}
    return Split(
        normal,
        {product: weighing for product, (weighing, _) in halves.items()},
        {product: rest for product, (_, rest) in halves.items()},
    )


def fit_bank(
    engine: Engine,
    split: Split,
    scoring: ScoringSettings,
    overkill: float,
    *,
    region: Region | None = None,
    on_progress: OnProgress | None = None,
) -> Bank:
    """Fit and calibrate a bank.

    Args:
        engine: the engine that will serve; the bank is bound to its hash.
        split: the pictures; products need not be those of training.
        scoring: how distances become a score.
        overkill: the share of good parts that may be rejected; the calibration must be able to promise it.
        region: the part of each picture to look at; give the worker's cameras the same.
        on_progress: called with the number of pictures that were just embedded.

    Raises:
        DataError: a picture cannot be read, or a product has too few for `overkill`.
        ConfigError: a detector is asked for that this engine does not support.
    """
    products = tuple(split.normal)
    _require_enough(split, overkill)
    embedder = Embedder(engine.spec, engine.embed, region, on_progress)
    fits = {product: embedder.fit(paths, scoring.coreset) for product, paths in split.normal.items()}
    asked = None if scoring.detectors == "auto" else scoring.detectors
    before = {product: fit.build(asked) for product, fit in fits.items()}
    for product, fit in fits.items():
        for embeddings, layouts in embedder.embed_to_learn(embedder.read(split.weighing[product])):
            fit.add(embeddings, layouts)
    detectors = _detectors(embedder, fits.values(), asked)
    weighed = _weigh(embedder, before, split.weighing, scoring, detectors)
    manifest = BankManifest(
        spec=engine.spec,
        engine=engine.hash,
        target=engine.target,
        products=products,
        scoring=scoring,
        votes=weighed.votes,
        found=weighed.found,
        created_at=now(),
    )
    normals = tuple(fit.build(needed(weighed.votes)) for fit in fits.values())
    uncalibrated = Bank(manifest, normals, weighed.scales, calibration=())
    calibration = tuple(
        calibrate(uncalibrated, c, embedder.embed(embedder.read(split.calibration[product])))
        for c, product in enumerate(products)
    )
    return replace(uncalibrated, calibration=calibration)


@dataclass(frozen=True)
class _Weighed:
    """The detectors in use with their votes, how well each found pasted anomalies, and the (C, K, 2) scales."""

    votes: dict[str, float]
    found: dict[str, float]
    scales: Array


def _detectors(embedder: Embedder, fits: Collection[NormalFit], asked: Collection[str] | None) -> list[str]:
    """Those asked for, or all, of the detectors that the engine and the pictures of every product support.

    Raises:
        ConfigError: another one is asked for.
    """
    fitted = set.intersection(*(set(fit.detectors) for fit in fits)) | {LEARNED}
    available = [one for one in embedder.detectors if one in fitted]
    unsupported = sorted(set(asked or ()) - set(available))
    if unsupported:
        raise ConfigError(
            f"scoring.detectors: this engine and framing offer {', '.join(available)}, not {unsupported[0]}; "
            "take it out, or build an engine of a model that has it"
        )
    return [one for one in available if asked is None or one in asked]


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
    votes, found = weigh(detectors, clean, distances(embedder.spoiled))
    return _Weighed(votes, found, scales)


def calibrate(bank: Bank, product: int, batches: Iterator[tuple[Embeddings, list[Layout]]]) -> Calibration:
    """The calibration of `product` (its index) from the embeddings of good pictures that are new to the bank."""
    one = bank.of_products([product])
    scores, whole = [], []
    for embeddings, layouts in batches:
        scores.append(frame_scores(read_frames(embeddings, layouts, one), one)[:, 0])
        whole += appearances(embeddings, layouts, one.normals)
    ratios = [turn_ratio(one.orientations[0]) for one in whole if one.orientations is not None]
    return Calibration(
        np.concatenate(scores), np.array([one.distance[0] for one in whole], np.float32), np.array(ratios, np.float32)
    )


def write_bank_file(path: Path, bank: Bank) -> None:
    """Write the bank to `path`, whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(bank.blob)
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another place with 'out'") from error


def read_bank_file(path: Path) -> Bank:
    """The bank in the file at `path`.

    Raises:
        DataError: it cannot be read, or is no bank.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); make a bank with 'quarterturn bank fit'"
        ) from error
    return read_bank(blob, str(path))


def _pictures_like(pictures: Paths, data: Path, calibration: Path) -> Paths:
    """The pictures of the folder `calibration`, under the products' names of `data`."""
    found = good_pictures(calibration)
    if len(found) == len(pictures) == 1:  # a folder of one product need not be called like it
        found = dict(zip(pictures, found.values(), strict=True))
    different = sorted(set(found) ^ set(pictures))
    if different:
        raise DataError(
            f"{calibration}: product '{different[0]}' is only in one of this folder and {data}; "
            "lay both out in the same products"
        )
    for product, paths in found.items():
        shared = {path.resolve() for path in paths} & {path.resolve() for path in pictures[product]}
        if shared:
            raise DataError(f"{min(shared)}: is in both the bank and its calibration; calibrate with other pictures")
    return {product: found[product] for product in pictures}


def _require_enough(split: Split, overkill: float) -> None:
    """Refuse too few calibration pictures before the engine has run for minutes."""
    for product, paths in split.calibration.items():
        conformal_threshold(np.zeros(len(paths)), overkill, f"product '{product}'")
