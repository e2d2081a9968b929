"""Which pictures become the next version, by what people said: learned from, calibrating, or left out, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.calibration import Promise, pictures_needed
from quarterturn.worker.contract.history import Role, Word, words_in
from quarterturn.worker.contract.known_pictures import hash_pictures
from quarterturn.worker.contract.times import parse_time
from quarterturn.worker.fitting.split import Split
from quarterturn.worker.learning.composition import Mixture, Stream, mixture, new_needed, new_share
from quarterturn.worker.learning.near_duplicates import NearDuplicates
from quarterturn.worker.learning.shelf import Kept


@dataclass
class ProductPlan:
    """What becomes of the judged pictures of one product.

    `roles` are those of the good ones and of what is left out, by the results' ids. `calibration` first pictures go on
    calibrating. `said` are sentences for people.
    """

    roles: dict[str, Role] = field(default_factory=dict)
    calibration: int = 0
    said: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Given:
    """What is known of one product before it is planned for.

    Attributes:
        product: its name.
        kept: its judged pictures.
        near_duplicates: which of them are the same part.
        first: how many pictures the first calibration had.
        promise: what the calibration in service promises; None where the threshold is a fixed one.
        stream: how it kept that lately.
    """

    product: str
    kept: Sequence[Kept]
    near_duplicates: NearDuplicates
    first: int
    promise: Promise | None
    stream: Stream


def plan(given: Given, bank: Bank, overkill: float, *, rolled_back: bool) -> ProductPlan:
    """Plan for one product.

    Args:
        given: what is known of it.
        bank: the version in service.
        overkill: what the thresholds have to promise.
        rolled_back: whether words count that a version knew which was rolled back.
    """
    planned = ProductPlan()
    before = words_in(bank.manifest.history)
    _leave_out(planned, given, bank, before, rolled_back=rolled_back)
    good = [one for one in given.kept if one.is_good and one.result_id not in planned.roles]
    roles: dict[str, Role] = {
        one.result_id: word.role
        for one in good
        if (word := before.get(one.result_id)) and word.verdict == "good" and word.role != "left_out"
    }
    needed = pictures_needed(overkill)
    share = new_share(given.stream, given.promise) if given.promise else 0.0
    # Right after a push nobody knows yet how it does; a fixed threshold promises nothing.
    does_well = given.promise is None or (share == 0 and given.stream.results >= needed)
    _take_sides(roles, _by_content([one for one in good if one.result_id not in roles]), halves=not does_well)
    steps = bank.manifest.history
    planned.calibration = steps[-1].calibration.get(given.product, given.first) if steps else given.first
    if does_well:
        roles.update({name: "learned" for name, role in roles.items() if role == "waiting"})
    elif share > 0:
        _compose(planned, roles, given, share, needed)
    planned.roles |= roles
    return planned


def _leave_out(
    planned: ProductPlan, given: Given, bank: Bank, before: Mapping[str, Word], *, rolled_back: bool
) -> None:
    for later, earlier in given.near_duplicates.contradictions:
        planned.said.append(
            f"{later} and {earlier} show the same part, but one is called good and the other bad: both are left out "
            "until somebody says which is right"
        )
    for copy, other in given.near_duplicates.copies.items():
        planned.said.append(f"{copy} shows the same part as {other}, and counts once")
    held = [one for one in given.kept if one.is_good and not rolled_back and _was_rolled_back(one, bank, before)]
    if held:
        planned.said.append(
            f"{given.product}: {len(held)} pictures called good were in a version that was rolled back, and are left "
            "out; say so again of each, or use --again"
        )
    out = {*given.near_duplicates.contradicted, *given.near_duplicates.copies, *(one.result_id for one in held)}
    planned.roles |= dict.fromkeys(sorted(out & {one.result_id for one in given.kept}), "left_out")


def _was_rolled_back(kept: Kept, bank: Bank, before: Mapping[str, Word]) -> bool:
    """Whether a version knew this word that is younger than the one in service, and none that led to that one did."""
    published, word = kept.note.published_at, before.get(kept.result_id)
    if published is None or (word is not None and word.at == kept.note.feedback.at):
        return False
    return parse_time(published) > parse_time(bank.manifest.created_at)


def _by_content(kept: Sequence[Kept]) -> list[str]:
    """The results' ids in the order of the pictures' hashes, which says nothing of their scores."""
    hashes = hash_pictures([one.path for one in kept])
    return [one.result_id for one in sorted(kept, key=lambda one: hashes[one.path])]


def _take_sides(roles: dict[str, Role], new: Sequence[str], *, halves: bool) -> None:
    """New pictures become part of the bank, or every second one is kept to calibrate with: never both."""
    for name in new:
        roles[name] = "waiting" if halves and len(roles) % 2 else "learned"


def _compose(planned: ProductPlan, roles: dict[str, Role], given: Given, share: float, needed: int) -> None:
    """Who calibrates; see `composition`."""
    waiting = [name for name, role in roles.items() if role == "waiting"]
    calibrating = [name for name, role in roles.items() if role == "calibrating"]
    there = planned.calibration + len(calibrating)
    rejected = f"{given.stream.rejected:.0%} of the last {given.stream.results} good parts were rejected"
    mixed = mixture(there, len(waiting), share, needed)
    if mixed is None:
        more = max(1, 2 * (new_needed(there, share, needed) - len(waiting)))
        planned.said.append(
            f"{given.product}: {rejected}, so the promise does not hold for the parts of now; it is "
            f"made anew when about {more} more of them are called good"
        )
        return
    roles.update(dict.fromkeys(waiting[: mixed.new], "calibrating"))
    first = _share_of(mixed, planned.calibration, there)
    roles.update(dict.fromkeys(calibrating[mixed.before - first :], "left_out"))
    planned.calibration = first
    planned.said.append(
        f"{given.product}: {rejected}; of {mixed.before + mixed.new} pictures that calibrate, {mixed.new} are of "
        f"those, as {share:.0%} of the good parts of now are"
    )


def _share_of(mixed: Mixture, first: int, there: int) -> int:
    """How many of the first calibration pictures stay, where as large a share of the later ones does."""
    return round(mixed.before * first / there) if there else 0


def split_as_planned(base: Split, plans: Mapping[str, ProductPlan], kept: Mapping[str, Kept]) -> Split:
    """The pictures that the next version is fitted from; the order is always the same."""

    def of(product: str, role: Role) -> list[Path]:
        roles = plans[product].roles if product in plans else {}
        return [kept[name].path for name in sorted(roles) if roles[name] == role]

    def first(product: str) -> list[Path]:
        paths = base.calibration[product]
        if product not in plans or plans[product].calibration >= len(paths):
            return list(paths)
        hashes = hash_pictures(paths)
        return sorted(sorted(paths, key=lambda path: hashes[path])[: plans[product].calibration])

    return Split(
        {product: [*paths, *of(product, "learned")] for product, paths in base.normal.items()},
        base.weighing,
        {product: [*first(product), *of(product, "calibrating")] for product in base.calibration},
        base.holdout,
        base.group,
    )
