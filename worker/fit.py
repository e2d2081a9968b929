"""Fits a bank: good pictures through the engine that will serve, in three parts that share no picture.

The first part becomes what good parts look like. By the second, and by defects pasted into it, the detectors are
chosen and brought to one scale. The third gives the scores from which thresholds are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from worker.config import EngineSettings, Overkill
from worker.contract.bank import Bank, BankManifest, Calibration, ScoringSettings, read_bank
from worker.contract.calibration import conformal_threshold
from worker.contract.detectors import DETECTORS, Array, Detector, Normal
from worker.contract.embedder import SPOILED, Embedder, OnProgress
from worker.contract.errors import ConfigError, DataError
from worker.contract.fitting import choose_detectors
from worker.contract.framing import Layout
from worker.contract.pictures import good_pictures, hold_out, split_held_out
from worker.contract.preprocess import Region
from worker.contract.scoring import fit_scale, frame_scores, read_frames, turn_ratios
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
    """Good pictures by product: to learn from, to choose detectors by, to calibrate with. No picture is in two."""

    normal: Paths
    choice: Paths
    calibration: Paths

    @property
    def total(self) -> int:
        """How many pictures pass through the engine in all."""
        return sum(
            len(paths) * copies
            for part, copies in ((self.normal, 1), (self.choice, 1 + SPOILED), (self.calibration, 1))
            for paths in part.values()
        )


def split_pictures(data: Path, calibration: Path | None, holdout: float) -> Split:
    """Choose the pictures for a bank.

    Without a `calibration` folder, the share `holdout` that training held out (the same pictures, see
    `worker.contract.pictures.hold_out`) serves for choice and calibration, and the others become the bank.

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
        {product: choice for product, (choice, _) in halves.items()},
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
    normals = tuple(embedder.fit(split.normal[product], scoring.coreset) for product in products)
    available = _available(engine, normals)
    unsupported = [] if scoring.detectors == "auto" else sorted(set(scoring.detectors) - set(available))
    if unsupported:
        raise ConfigError(
            f"scoring.detectors: this engine and framing offer {', '.join(available)}, not {unsupported[0]}; "
            "take it out, or build an engine of a model that has it"
        )
    clean = [
        embedder.distances(embedder.read(split.choice[product]), normal, scoring, available)
        for product, normal in zip(products, normals, strict=True)
    ]
    table: dict[str, float] = {}
    if scoring.detectors == "auto":
        spoiled = [
            embedder.distances(embedder.spoiled(split.choice[product]), normal, scoring, available)
            for product, normal in zip(products, normals, strict=True)
        ]
        chosen, table = choose_detectors(available, clean, spoiled)
    else:
        chosen = tuple(detector for detector in available if detector in scoring.detectors)
    places = [available.index(detector) for detector in chosen]
    manifest = BankManifest(
        spec=engine.spec,
        engine=engine.hash,
        target=engine.target,
        products=products,
        scoring=scoring,
        detectors=chosen,
        choice=table,
        created_at=now(),
    )
    scales = np.stack([fit_scale(one[:, places]) for one in clean])
    uncalibrated = Bank(manifest, normals, scales, calibration=())
    calibration = tuple(
        calibrate(uncalibrated, c, embedder.embed(embedder.read(split.calibration[product])))
        for c, product in enumerate(products)
    )
    return replace(uncalibrated, calibration=calibration)


def calibrate(bank: Bank, product: int, batches: Iterator[tuple[Array, list[Layout]]]) -> Calibration:
    """The calibration of `product` (its index) from the embeddings of good pictures that are new to the bank."""
    one = bank.of_products([product])
    own, ratios = [], []
    for embeddings, layouts in batches:
        own.append(frame_scores(read_frames(embeddings, layouts, one), one)[:, 0])
        ratios.append(turn_ratios(embeddings, layouts, one, 0))
    return Calibration(np.concatenate(own), np.concatenate(ratios))


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


def _available(engine: Engine, normals: Sequence[Normal]) -> tuple[Detector, ...]:
    """The detectors that the engine and all products support."""
    supported = set(DETECTORS).intersection(*(normal.detectors for normal in normals))
    return tuple(one for one in DETECTORS if one in supported or (one == "learned" and engine.spec.learned))


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
