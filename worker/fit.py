"""Fits a bank: good pictures through the engine that will serve, their Gaussians, and the scores of held-out ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from worker.config import EngineSettings, Overkill
from worker.contract.bank import Array, Bank, BankManifest, Calibration, ScoringSettings, fit_gaussians, read_bank
from worker.contract.calibration import conformal_threshold
from worker.contract.errors import DataError
from worker.contract.pictures import good_pictures, hold_out
from worker.contract.preprocess import Region, read_frame
from worker.contract.scoring import distances, scores, turn_ratios
from worker.contract.settings import Settings
from worker.engine.base import Engine
from worker.events import now

Pictures = Mapping[str, Sequence[Path]]
OnProgress = Callable[[int], object]

_BATCH = 16  # frames in one call of the engine, and in one piece of the scoring
_AHEAD = 2  # batches decoded while the engine is at work


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
    """Good pictures by product: those that become the bank, and those that calibrate it. No picture is in both."""

    normal: Pictures
    calibration: Pictures

    @property
    def total(self) -> int:
        """How many pictures there are in all."""
        return sum(len(paths) for part in (self.normal, self.calibration) for paths in part.values())


def split_pictures(data: Path, calibration: Path | None, holdout: float) -> Split:
    """Choose the pictures for a bank.

    Without a `calibration` folder, the share `holdout` that training held out calibrates (the same pictures, see
    `worker.contract.pictures.hold_out`), and the others become the bank.

    Raises:
        DataError: a folder is empty, its products differ from the other's, or no picture is left to calibrate with.
    """
    pictures = good_pictures(data)
    if calibration is not None:
        return Split(pictures, _pictures_like(pictures, data, calibration))
    if holdout == 0:
        raise DataError(
            f"{data}: training held out no picture (holdout: 0), so none is left to calibrate with; "
            "name another folder of good pictures with 'calibration', or train with a holdout"
        )
    parts = {product: hold_out(paths, holdout) for product, paths in pictures.items()}
    return Split(
        {product: normal for product, (normal, _) in parts.items()},
        {product: held_out for product, (_, held_out) in parts.items()},
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
    """
    products = tuple(split.normal)
    _require_enough(split, overkill)
    embeddings = tuple(embed_pictures(engine, split.normal[p], region, on_progress=on_progress) for p in products)
    manifest = BankManifest(
        spec=engine.spec,
        engine=engine.hash,
        target=engine.target,
        products=products,
        scoring=scoring,
        created_at=now(),
        trained_holdout=True,
    )
    uncalibrated = Bank(manifest, embeddings, fit_gaussians(embeddings), calibration=())
    calibration = tuple(
        calibrate(uncalibrated, c, embed_pictures(engine, split.calibration[product], region, on_progress=on_progress))
        for c, product in enumerate(products)
    )
    return replace(uncalibrated, calibration=calibration)


def calibrate(bank: Bank, product: int, embeddings: Array) -> Calibration:
    """The calibration of `product` (its index) from the embeddings (n, V, P, D) of good pictures not in the bank."""
    batches = [embeddings[start : start + _BATCH] for start in range(0, len(embeddings), _BATCH)]
    own = [scores(distances(batch, bank)[:, product], bank.manifest.scoring) for batch in batches]
    ratios = [turn_ratios(batch, bank, product) for batch in batches]
    return Calibration(np.concatenate(own), np.concatenate(ratios))


def embed_pictures(
    engine: Engine,
    paths: Sequence[Path],
    region: Region | None = None,
    batch: int = _BATCH,
    on_progress: OnProgress | None = None,
) -> Array:
    """The embeddings (N, V, P, D) of picture files; the next batches are decoded while the engine is at work.

    Raises:
        DataError: a file cannot be read or is no picture.
    """
    spec = engine.spec
    result = np.empty((len(paths), spec.views, spec.positions, spec.dimensions), np.float32)
    done = 0
    for frames in _decoded(paths, spec.side, region, batch):
        result[done : done + len(frames)] = engine.embed(frames)
        done += len(frames)
        if on_progress:
            on_progress(len(frames))
    return result


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


def _decoded(paths: Sequence[Path], side: int, region: Region | None, batch: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Batches of frames (B, S, S, 3), in order; at most `_AHEAD` are decoded in advance."""

    def decode(start: int) -> npt.NDArray[np.uint8]:
        return np.stack([read_frame(path, side, region) for path in paths[start : start + batch]])

    starts = iter(range(0, len(paths), batch))
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="decode") as pool:
        pending = deque(pool.submit(decode, start) for start in islice(starts, _AHEAD))
        while pending:
            frames = pending.popleft().result()
            pending.extend(pool.submit(decode, start) for start in islice(starts, 1))
            yield frames


def _pictures_like(pictures: Pictures, data: Path, calibration: Path) -> Pictures:
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
