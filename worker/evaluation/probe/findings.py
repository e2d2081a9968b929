"""What the probe's figures mean, in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from quarterturn.worker.evaluation.probe.confounders import NOTABLE, Comparison

_LEVELS = (0.90, 0.75, NOTABLE)  # the AUROC from which a confounder is strong, clear, weak; docs/evaluation.md says why
_SHARES = (0.25, 0.05, 0.0)  # the same for the share of test pictures with a near-duplicate
_NAMED = 3


class Strength(IntEnum):
    """How much a finding weighs."""

    NONE = 0
    WEAK = 1
    CLEAR = 2
    STRONG = 3


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """A test picture that is nearly a training picture; `similarity` is 1 for the same picture."""

    test: Path
    train: Path
    similarity: float
    is_good: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """One plain sentence."""

    strength: Strength
    sentence: str


_BAD = {
    Strength.STRONG: ("alone separates", "figures on this set say nothing about defects"),
    Strength.CLEAR: ("partly separates", "compare figures on this set with that one, not with 0.5"),
    Strength.WEAK: ("slightly separates", "part of a figure on this set may be owed to it"),
}
_SHIFT = {
    Strength.STRONG: ("alone tells", "what training pictures promise does not hold for these"),
    Strength.CLEAR: ("partly tells", "expect another overkill than the promised one"),
    Strength.WEAK: ("slightly tells", "the overkill may miss its promise a little"),
}
_NEAR_DUPLICATES = {
    Strength.STRONG: "what they score says nothing of new parts: split the set by parts",
    Strength.CLEAR: "what they score says nothing of new parts: leave them out",
    Strength.WEAK: "look whether they are the same parts",
}


def on_bad(bad: Comparison) -> Finding:
    """What bad test pictures against good ones say."""
    if not bad.found:
        return Finding(Strength.NONE, f"no confounder separates good from bad{_why_none(bad, 'good', 'bad')}")
    strength = _strength(bad.found[0].auroc, _LEVELS)
    claim, consequence = _BAD[strength]
    return Finding(strength, f"{_first(bad, f'{claim} good from bad', 'bad')}; {consequence}")


def on_shift(shift: Comparison) -> Finding:
    """What good test pictures against training pictures say."""
    if not shift.found:
        why = _why_none(shift, "training", "good test")
        return Finding(Strength.NONE, f"no confounder tells test-good from train-good{why}")
    strength = _strength(shift.found[0].auroc, _LEVELS)
    claim, consequence = _SHIFT[strength]
    return Finding(strength, f"{_first(shift, f'{claim} test-good from train-good', 'test')}; {consequence}")


def on_near_duplicates(near_duplicates: Sequence[NearDuplicate], train: int, good: int, bad: int) -> Finding:
    """What the near-duplicates, the nearest first, say of `good` and `bad` test pictures."""
    if not train:
        return Finding(Strength.NONE, "no near-duplicates of training pictures were looked for: there are none")
    if not near_duplicates:
        return Finding(Strength.NONE, "no test picture has a near-duplicate in training")
    good_ones = sum(pair.is_good for pair in near_duplicates)
    kinds = [(good_ones, good, "good"), (len(near_duplicates) - good_ones, bad, "bad")]
    counts = " and ".join(f"{found} of {count} {kind}" for found, count, kind in kinds if count)
    pairs = ", ".join(f"{pair.test.name} is nearly {pair.train.name}" for pair in near_duplicates[:_NAMED])
    strength = _strength(max(found / count for found, count, _ in kinds if count), _SHARES)
    return Finding(
        strength, f"{counts} test pictures have a near-duplicate in training ({pairs}); {_NEAR_DUPLICATES[strength]}"
    )


def _first(compared: Comparison, claim: str, group: str) -> str:
    """The strongest confounder in words, the others with their AUROC."""
    first, *others = compared.found
    said = f"{first.confounder} {claim}: {first.auroc:.2f} ({group} pictures are {first.how})"
    return said + (f"; also {', '.join(f'{one.confounder} {one.auroc:.2f}' for one in others)}" if others else "")


def _why_none(compared: Comparison, reference: str, group: str) -> str:
    """Behind "no confounder": that there is nothing to compare, too little, or what none of them reaches."""
    if not compared.reference or not compared.group:
        return f": there are no {group if compared.reference else reference} pictures"
    counts = f"{compared.reference} {reference} and {compared.group} {group} pictures"
    if compared.bound >= 1:
        return f", but {counts} are too few to tell"
    chance = f", beyond what chance does with {counts}" if compared.bound > NOTABLE else ""
    return f": none reaches {compared.bound:.2f}{chance}"


def _strength(value: float, levels: tuple[float, float, float]) -> Strength:
    return Strength(sum(value >= level for level in levels))
