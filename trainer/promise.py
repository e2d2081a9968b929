"""What the held-out pictures will be able to promise, said before minutes are spent on training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from quarterturn.trainer.data import GoodParts
from quarterturn.worker.contract.calibration import CONFIDENCE, Promise, pictures_needed, smallest_promise
from quarterturn.worker.contract.supply import calibrating, to_add

log = logging.getLogger(__name__)


def tell_promises(parts: GoodParts, holdout: float, overkill: float) -> None:
    """Log for each product which overkill can be promised; as a warning where `overkill` cannot.

    That is no reason to refuse: a bank may be calibrated with other pictures, or for a larger overkill.
    """
    for product, learned, held_out in zip(parts.products, parts.learned, parts.held_out, strict=True):
        pictures = [*learned, *held_out]
        count = calibrating(pictures, holdout)
        told = f"{product}: {count} of {len(pictures)} good pictures calibrate ({holdout:.0%} are held out)"
        if count >= pictures_needed(overkill):
            bound = Promise.of(count, overkill).bound
            log.info(
                f"{told}: an overkill of {100 * overkill:g}% can be promised on average, and {bound:.2%} with "
                f"{CONFIDENCE:.0%} confidence"
            )
        else:
            log.warning(f"{told}: {_too_few(pictures, count, holdout, overkill)}")


def _too_few(pictures: Sequence[Path], count: int, holdout: float, overkill: float) -> str:
    least = f"no smaller overkill than {smallest_promise(count):.2%}" if count else "no overkill"
    more, others = to_add(pictures, holdout, overkill), to_add([], None, overkill)
    return (
        f"{least} can be promised; for {100 * overkill:g}% add {more} good pictures before training, or fit the bank "
        f"with {others} others as 'calibration'"
    )
