"""Which good pictures become a bank, weigh its detectors, and calibrate it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quarterturn.worker.contract.bank import ScoringSettings
from quarterturn.worker.contract.calibration import pictures_needed, too_few
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.pictures import good_pictures, hold_out, split_held_out
from quarterturn.worker.contract.supply import to_add
from quarterturn.worker.fitting.embedder import SPOILED

Paths = Mapping[str, Sequence[Path]]


@dataclass(frozen=True)
class Split:
    """Good pictures by product: to learn from, to weigh detectors by, to calibrate with. No picture is in two.

    `holdout` is the share of all of them that training held out; None: the last two are of a folder of their own.
    """

    normal: Paths
    weighing: Paths
    calibration: Paths
    holdout: float | None = None

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
        holdout if calibration is None else None,
    )


def require_enough(split: Split, overkill: float) -> None:
    """Refuse too few calibration pictures before the engine has run for minutes.

    Raises:
        DataError: a product has too few for a promise of `overkill`; says how many good pictures to add.
    """
    for product, paths in split.calibration.items():
        if len(paths) < pictures_needed(overkill):
            raise too_few(f"product '{product}'", len(paths), overkill, _remedy(split, product, overkill))


def _remedy(split: Split, product: str, overkill: float) -> str:
    held_out = [*split.weighing[product], *split.calibration[product]]
    if split.holdout is None:
        return f"add {to_add(held_out, None, overkill)} good pictures to the folder that 'calibration' names"
    more = to_add([*split.normal[product], *held_out], split.holdout, overkill)
    return (
        f"add {more} good pictures, of which {split.holdout:.0%} are held out, and train again, or name a folder of "
        f"{to_add([], None, overkill)} others with 'calibration'"
    )


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
