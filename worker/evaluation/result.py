"""What an evaluation found, as it is printed, written and reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quarterturn.worker.contract.calibration import Promise
from quarterturn.worker.contract.picture import BitDepth, Region
from quarterturn.worker.evaluation.choice import Choice
from quarterturn.worker.evaluation.figures import Figures, Inspected, Unreadable


@dataclass(frozen=True, slots=True)
class Localisation:
    """How well the heat maps find the defects themselves; the figures are those of `worker.evaluation.localisation`.

    `masks` counts the bad pictures that have a mask, `good` the good ones, which count with an empty mask.
    `peak_in_mask` is a share of the `masks`.
    """

    masks: int
    good: int
    pixel_auroc: float | None
    aupro: float | None
    peak_in_mask: float | None


@dataclass(frozen=True, slots=True)
class Swapped:
    """Good parts that were declared as another product of the bank: how many, and which share of them was found out.

    `alerted` counts alerts of any kind, `named` those that say wrong_product.
    """

    parts: int
    alerted: float
    named: float


@dataclass(frozen=True)
class Evaluation:
    """The verdicts on a labelled folder, by one engine (its hash) and one bank (its version).

    `promises` holds the calibration's guarantee for each product. `swapped` is None for a bank of one product,
    `localisation` where there are no masks or no heat maps. `region` is the part of each picture that was looked at,
    and that its heat map covers; None for the whole. `warnings` are sentences on why the figures may say little of the
    line. `mask_faults` says what is wrong with masks, `choices` are other
    overkills that might be asked, and `ran` says by name what was run besides engine and bank. `bit_depth` is that of
    samples that lie in 16 bits.
    """

    engine: str
    target: str
    bank: str
    overkill: float
    promises: Mapping[str, Promise]
    inspected: Sequence[Inspected]
    unreadable: Sequence[Unreadable]
    swapped: Swapped | None
    localisation: Localisation | None = None
    warnings: Sequence[str] = ()
    mask_faults: Sequence[str] = ()
    choices: Sequence[Choice] = ()
    ran: Mapping[str, str] = field(default_factory=dict)
    region: Region | None = None
    bit_depth: BitDepth | None = None

    @property
    def total(self) -> Figures:
        """The figures of all pictures together."""
        return Figures.of(self.inspected)

    @property
    def by_product(self) -> dict[str, Figures]:
        """The figures of each product."""
        products = sorted({one.product for one in self.inspected})
        return {product: Figures.of([one for one in self.inspected if one.product == product]) for product in products}

    @property
    def by_defect(self) -> dict[tuple[str, str], Figures]:
        """The figures of each (product, defect type), against the product's good parts, or all where it has none."""
        kinds = sorted({(one.product, one.defect) for one in self.inspected if not one.is_good})
        return {(product, defect): self._against_good(product, defect) for product, defect in kinds}

    def _against_good(self, product: str, defect: str) -> Figures:
        good = [one for one in self.inspected if one.is_good]
        bad = [one for one in self.inspected if (one.product, one.defect) == (product, defect)]
        return Figures.of(([one for one in good if one.product == product] or good) + bad)
