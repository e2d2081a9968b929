"""Which good pictures become a bank, weigh its detectors, and calibrate it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quarterturn.worker.contract.bank import ScoringSettings
from quarterturn.worker.contract.calibration import pictures_needed, too_few
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.known_pictures import KnownPictures, distinct, hash_pictures, sides_of
from quarterturn.worker.contract.picture import BitDepth, Region
from quarterturn.worker.contract.splits import groups_of
from quarterturn.worker.fitting.embedder import PASTED
from quarterturn.worker.pictures.near_duplicates import (
    SAME,
    SIMILARITY,
    nearest_before,
    read_thumbnails,
    require_variety,
)
from quarterturn.worker.pictures.sets import good_pictures, hold_out, split_held_out
from quarterturn.worker.pictures.supply import to_add
from quarterturn.worker.settings.bank import FitSettings

log = logging.getLogger(__name__)

Paths = Mapping[str, Sequence[Path]]

_FEWEST = 2  # pictures of a product in a bank: a spread
_NAMED = 3


@dataclass(frozen=True)
class Split:
    """Good pictures by product: to learn from, to weigh detectors by, to calibrate with. No picture is in two.

    Of the pictures of one part, one calibrates: the others would count it several times. `holdout` is the share that
    training held out; None: the last two are of a folder of their own. `group` says which pictures show the same part.
    """

    normal: Paths
    weighing: Paths
    calibration: Paths
    holdout: float | None = None
    group: str | None = None

    def total(self, scoring: ScoringSettings) -> int:
        """How many pictures pass through the engine; those to weigh by do so several times, also with anomalies."""
        copies = 2 + (PASTED if scoring.detectors == "auto" else 0)
        return sum(
            len(paths) * times
            for part, times in ((self.normal, 1), (self.weighing, copies), (self.calibration, 1))
            for paths in part.values()
        )


def split_pictures(
    data: Path,
    calibration: Path | None,
    holdout: float,
    *,
    group: str | None = None,
    known: Mapping[str, KnownPictures] | None = None,
    region: Region | None = None,
    bit_depth: BitDepth | None = None,
) -> Split:
    """Choose the pictures for a bank.

    Without a `calibration` folder, the share `holdout` that training held out (the same pictures, see
    `worker.contract.splits.hold_out`) serves for weighing and calibration, and the others become the bank. Copies of a
    picture count once, and what shows nearly what the bank shows does not calibrate.

    Args:
        data: the good pictures.
        calibration: a folder of others to weigh and calibrate with.
        holdout: the share that training held out.
        group: the rule by which training kept the pictures of one part together.
        known: the pictures that training knew, by product: each stays on its side, whatever was added, renamed or
            changed since.
        region: the part of each picture that is looked at.
        bit_depth: of its samples, where they lie in 16 bits.

    Raises:
        DataError: a folder is empty, its products differ from the other's, no picture is left to learn from or to
            calibrate with, training saw what would calibrate, or all pictures of a product look the same.
    """
    known = known or {}
    pictures, hashes = _distinct(good_pictures(data))
    if calibration is not None:
        normal = pictures
        halves = {
            product: split_held_out(paths, group)
            for product, paths in _calibrating(pictures, hashes, data, calibration, known).items()
        }
    elif holdout == 0:
        raise DataError(
            f"{data}: training held out no picture (holdout: 0), so none is left to calibrate with; "
            "name another folder of good pictures with 'calibration', or train with a holdout"
        )
    else:
        parts = {
            product: _as_training(paths, hashes, known.get(product, KnownPictures()), holdout=holdout, group=group)
            for product, paths in pictures.items()
        }
        for product in pictures.keys() & known.keys():
            _tell_changes(product, known[product].changes(pictures[product], hashes))
        normal = {product: learned for product, (learned, _, _) in parts.items()}
        halves = {product: (weighing, rest) for product, (_, weighing, rest) in parts.items()}
    for product, paths in normal.items():
        if len(paths) < _FEWEST:
            raise DataError(f"{data}: product '{product}' has {len(paths)} good pictures for the bank; add others")
    split = Split(
        normal,
        {product: weighing for product, (weighing, _) in halves.items()},
        {product: sorted(part[0] for part in groups_of(rest, group)) for product, (_, rest) in halves.items()},
        holdout if calibration is None else None,
        group,
    )
    return _set_apart(split, region, bit_depth)


def split_by(
    settings: FitSettings, holdout: float, group: str | None, known: Mapping[str, KnownPictures] | None = None
) -> Split:
    """`split_pictures` as the settings of a fit say, for a training that held out `holdout` by the rule `group`."""
    return split_pictures(
        settings.data,
        settings.calibration,
        holdout,
        group=group,
        known=known,
        region=settings.region,
        bit_depth=settings.bit_depth,
    )


def require_enough(split: Split, overkill: float) -> None:
    """Refuse too few calibration pictures before the engine has run for minutes.

    Raises:
        DataError: a product has too few for a promise of `overkill`; says how many good pictures to add.
    """
    needed = pictures_needed(overkill)
    for product, paths in split.calibration.items():
        if len(paths) < needed:
            raise too_few(f"product '{product}'", len(paths), overkill, _remedy(split, product, needed), "bank.yaml")


def _remedy(split: Split, product: str, needed: int) -> str:
    calibration, weighing = split.calibration[product], split.weighing[product]
    missing, kind = needed - len(calibration), "parts" if split.group else "good pictures"
    if split.holdout is None:
        more = to_add([*weighing, *calibration], missing, None, split.group)
        return f"add {more} {kind} to the folder that 'calibration' names"
    more = to_add([*split.normal[product], *weighing, *calibration], missing, split.holdout, split.group)
    return (
        f"add {more} {kind}, of which {split.holdout:.0%} are held out, and train again, or name a "
        f"folder of {to_add([], needed, None)} others with 'calibration'"
    )


def _distinct(pictures: Mapping[str, Sequence[Path]]) -> tuple[dict[str, list[Path]], dict[Path, str]]:
    """The pictures without copies, and the hashes of all."""
    hashes = hash_pictures(list(itertools.chain(*pictures.values())))
    return distinct(pictures, hashes), hashes


def _as_training(
    paths: Sequence[Path],
    hashes: Mapping[Path, str],
    known: KnownPictures,
    *,
    holdout: float,
    group: str | None,
) -> tuple[list[Path], list[Path], list[Path]]:
    """The pictures of one product that training learned from, chose by and held out; new ones are split by its rule."""
    sides = sides_of(known, paths, hashes, group)
    new = [path for path in paths if path not in sides]
    learned, unseen = hold_out(new, holdout, group)
    weighing, rest = split_held_out(unseen, group)
    learned, weighing, rest = (
        sorted([*part, *(path for path, side in sides.items() if side == name)])
        for name, part in (("learned", learned), ("chosen_by", weighing), ("held_out", rest))
    )
    return (learned, weighing, rest) if weighing else (learned, *split_held_out(rest, group))


def _tell_changes(product: str, changes: Mapping[str, int]) -> None:
    if any(changes.values()):
        log.warning(
            "%s: the pictures are not those of training (%s); those that it knew stay on their side, so that none it "
            "learned from calibrates",
            product,
            ", ".join(f"{count} are {what}" for what, count in changes.items() if count),
        )


def _calibrating(
    pictures: Paths, hashes: Mapping[Path, str], data: Path, calibration: Path, known: Mapping[str, KnownPictures]
) -> dict[str, list[Path]]:
    """The pictures of the folder `calibration`, by the products of `data`; neither bank nor training has them.

    Raises:
        DataError: one of them has.
    """
    found, further = _distinct(_pictures_like(pictures, data, calibration))
    in_bank = {hashes[path] for path in itertools.chain(*pictures.values())}
    seen = {content for one in known.values() for content, side in one.sides().items() if side != "held_out"}
    for owners, what in ((in_bank, "is in both the bank and its calibration"), (seen, "was seen in training")):
        shared = [path for path in itertools.chain(*found.values()) if further[path] in owners]
        if shared:
            others = f" ({len(shared) - 1} others are, too)" if len(shared) > 1 else ""
            raise DataError(f"{min(shared)}: {what}{others}; calibrate with other pictures")
    return found


def _pictures_like(pictures: Paths, data: Path, calibration: Path) -> dict[str, list[Path]]:
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
    return {product: found[product] for product in pictures}


def _set_apart(split: Split, region: Region | None, bit_depth: BitDepth | None) -> Split:
    """Without calibration pictures that are the same photograph as one in the bank, or as another one of them.

    Raises:
        DataError: all pictures of a product look the same, or one cannot be read.
    """
    kept: dict[str, list[Path]] = {}
    for product, calibration in split.calibration.items():
        bank = [*split.normal[product], *split.weighing[product]]
        every = [*bank, *calibration]
        thumbnails = read_thumbnails(every, region, bit_depth)
        require_variety(product, thumbnails)
        kept[product] = list(calibration)
        if calibration:
            similarities, indices = nearest_before(thumbnails[: len(bank)], thumbnails[len(bank) :])
            near = {
                path: (every[index], similarity)
                for path, index, similarity in zip(calibration, indices, similarities.tolist(), strict=True)
                if similarity >= SIMILARITY
            }
            kept[product] = [path for path in calibration if path not in near or near[path][1] < SAME]
            _tell_near(product, near, len(calibration) - len(kept[product]), len(calibration))
    return replace(split, calibration=kept)


def _tell_near(product: str, near: Mapping[Path, tuple[Path, float]], left_out: int, count: int) -> None:
    if not near:
        return
    pairs = ", ".join(f"{path.name} is nearly {other.name}" for path, (other, _) in list(near.items())[:_NAMED])
    same = f"; {left_out} are the same photograph and do not calibrate" if left_out else ""
    log.warning(
        "%s: %d of %d calibration pictures show nearly what others do (%s)%s. If these are pictures of one part, train "
        "with data.group: what is promised holds for parts like those that calibrate",
        product,
        len(near),
        count,
        pairs,
        same,
    )
