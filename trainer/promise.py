"""What the held-out pictures will be able to promise, said before minutes are spent on training."""

from __future__ import annotations

import logging

from quarterturn.trainer.data import GoodParts
from quarterturn.worker.contract.calibration import CONFIDENCE, Promise, pictures_needed, smallest_promise
from quarterturn.worker.pictures.supply import calibrating, to_add

log = logging.getLogger(__name__)


def tell_promises(parts: GoodParts, holdout: float, overkill: float) -> None:
    """Log for each product which overkill can be promised; as a warning where `overkill` cannot.

    That is no reason to refuse: a bank may be calibrated with other pictures, or for a larger overkill.
    """
    for product, learned, held_out in zip(parts.products, parts.learned, parts.held_out, strict=True):
        pictures = [*learned, *held_out]
        count, needed = calibrating(pictures, holdout, parts.group), pictures_needed(overkill)
        told = f"{product}: {count} of {len(pictures)} good pictures calibrate ({holdout:.0%} are held out)"
        if count >= needed:
            bound = Promise.of(count, overkill).bound
            log.info(
                f"{told}: an overkill of {100 * overkill:g}% can be promised on average, and {bound:.2%} with "
                f"{CONFIDENCE:.0%} confidence"
            )
            continue
        least = f"no smaller overkill than {smallest_promise(count):.2%}" if count else "no overkill"
        more = to_add(pictures, needed - count, holdout, parts.group)
        log.warning(
            f"{told}: {least} can be promised; for {100 * overkill:g}% add {more} "
            f"{'parts' if parts.group else 'good pictures'} before training, or fit the bank with "
            f"{to_add([], needed, None)} others as 'calibration'"
        )
