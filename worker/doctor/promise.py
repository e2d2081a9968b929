"""What the bank in service promises at the overkill asked, and how many good pictures are missing for it."""

from __future__ import annotations

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.calibration import pictures_needed, promises, smallest_promise
from quarterturn.worker.contract.errors import QuarterturnError
from quarterturn.worker.contract.manifest import EngineManifest, read_manifest
from quarterturn.worker.doctor.check import Check
from quarterturn.worker.pictures.supply import to_add, to_add_to_a_bank
from quarterturn.worker.settings.worker import WorkerSettings


def promise(settings: WorkerSettings, bank: Bank) -> Check:
    """One check for all products: the promises, or what is missing for those that cannot be kept."""
    overkill, needed = settings.overkill, pictures_needed(settings.overkill)
    calibrated = {
        product: len(calibration.scores)
        for product, calibration in zip(bank.products, bank.calibration, strict=True)
        if product not in settings.thresholds
    }
    fewest = min(calibrated.values(), default=needed)
    if fewest < needed:
        few = ", ".join(f"{product} has {count}" for product, count in calibrated.items() if count < needed)
        found = f"an overkill of {overkill * 100:g}% needs {needed} calibration pictures of each product, but {few}"
        return Check("promise", "failure", found, _fix(settings, fewest))
    kept = [f"{product}: {one.sentence}" for product, one in promises(bank, overkill, settings.thresholds).items()]
    return Check("promise", "ok" if kept else "skipped", "; ".join(kept) or "all thresholds are fixed ones")


def _fix(settings: WorkerSettings, fewest: int) -> str:
    """What makes the promise true for the product with the fewest calibration pictures."""
    needed = pictures_needed(settings.overkill)
    allow = f"or set overkill: {smallest_promise(fewest):.4g}"
    calibrate = f"fit a bank with a folder of {to_add([], needed, None)} good pictures as 'calibration'"
    try:
        holdout = read_manifest(settings.engine.path, EngineManifest, "quarterturn build").holdout
    except QuarterturnError:  # the check of the engine says so
        return f"{calibrate}, {allow}"
    if not holdout:
        return f"{calibrate}, {allow}"
    more = to_add_to_a_bank(fewest, needed - fewest, holdout)
    return f"add {more} good pictures to those of training, train, build and fit again, or {calibrate}, {allow}"
