"""Escape against overkill, to choose by: what other promises would have done with the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.calibration import Promise, conformal_threshold, pictures_needed, promises
from quarterturn.worker.contract.chance import share_between
from quarterturn.worker.evaluation.figures import Inspected, share

OFFERED = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True, slots=True)
class Choice:
    """An overkill that may be `asked`, and what its thresholds do with these pictures.

    `promise` is that of the product that it is worst for; None where the calibration of one is too small: then nothing
    is measured, and `missing` is how many calibration pictures that product lacks. Shares are beside the interval that
    holds the true one with 95% confidence.
    """

    asked: float
    promise: Promise | None
    missing: int
    overkill: float | None
    overkill_between: tuple[float, float] | None
    escape: float | None
    escape_between: tuple[float, float] | None


def choices(bank: Bank, inspected: Sequence[Inspected], overkill: float) -> list[Choice]:
    """What may be asked, `overkill` among it; pictures of products that the bank does not hold are left out."""
    known = [one for one in inspected if one.product in bank.products]
    return [_choice(bank, known, asked) for asked in sorted({*OFFERED, overkill})]


def _choice(bank: Bank, inspected: Sequence[Inspected], asked: float) -> Choice:
    missing = pictures_needed(asked) - min(len(calibration.scores) for calibration in bank.calibration)
    if missing > 0:
        return Choice(asked, None, missing, None, None, None, None)
    thresholds = {
        product: conformal_threshold(calibration.scores, asked)
        for product, calibration in zip(bank.products, bank.calibration, strict=True)
    }
    alerts = [(one.is_good, one.score > thresholds[one.product]) for one in inspected]
    rejected = [alert for is_good, alert in alerts if is_good]
    passed = [not alert for is_good, alert in alerts if not is_good]
    worst = max(promises(bank, asked, {}).values(), key=lambda promise: promise.bound)
    return Choice(
        asked,
        worst,
        0,
        share(sum(rejected), len(rejected)),
        share_between(sum(rejected), len(rejected)) if rejected else None,
        share(sum(passed), len(passed)),
        share_between(sum(passed), len(passed)) if passed else None,
    )
