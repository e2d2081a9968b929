"""How a score sits among those of good parts, and what another threshold would have done."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.calibration import CONFIDENCE, conformal_p_value
from quarterturn.worker.contract.chance import beta_quantile
from quarterturn.worker.explain.explanation import Past, Standing, Turning
from quarterturn.worker.inspection.judge import Judgement
from quarterturn.worker.messages.events import ResultData

_BINS = 24
_FARTHEST = 2.0  # thresholds that the histogram shows at least; one far score does not squeeze the others


def standing_of(scores: Array, score: float, threshold: float) -> Standing:
    """That of `score` among the calibration's (n,) `scores`, which are at least one."""
    highest = float(scores.max())
    end = max(highest, _FARTHEST * threshold)
    counts, edges = np.histogram(scores, _BINS, (min(0.0, float(scores.min())), end))
    return Standing(
        pictures=len(scores),
        above=int(np.count_nonzero(scores >= np.float32(score))),
        p_value=conformal_p_value(scores, np.float32(score)),
        median=float(np.median(scores)),
        highest=highest,
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
    )


def turning_of(scores: Array, judgement: Judgement, recorded: Sequence[ResultData]) -> Turning | None:
    """The threshold at which the verdict on a frame with this score turns, and what it would mean for others.

    A part is an alert where its score is above the threshold, so one that was rejected passes from its own score on,
    and one that passed is rejected below it. The threshold is rounded, away from the frame, to digits that a person
    copies. Of n calibration scores j are above it: its overkill is (j+1)/(n+1), as if it were the next lower one of
    them, and at most what Clopper and Pearson's interval says (see `chance.share_between`, here its upper end alone).

    Args:
        scores: (n,) of the calibration.
        judgement: the frame's, of a picture that can be judged.
        recorded: verdicts of the same product by the same bank.

    Returns:
        None for a score of 0, which no threshold rejects.
    """
    score, passed = judgement.score, judgement.alert is None
    if score <= 0:
        return None
    step = 10.0 ** (math.floor(math.log10(score)) - 3)  # of four digits
    steps = math.ceil(score / step) - 1 if passed else math.floor(score / step) + 1
    threshold = float(f"{steps * step:.4g}")
    above = int(np.count_nonzero(scores > np.float32(threshold)))
    n = len(scores)
    return Turning(
        threshold=threshold,
        passes=not passed,
        overkill=(above + 1) / (n + 1),
        bound=beta_quantile(CONFIDENCE, above + 1, n - above) if above < n else 1.0,
        past=_past(recorded, threshold) if recorded else None,
    )


def _past(recorded: Sequence[ResultData], threshold: float) -> Past:
    unusable = sum(one.alert == "unusable_picture" for one in recorded)
    times = sorted(one.creation_time for one in recorded)
    return Past(
        frames=len(recorded),
        alerts=sum(one.alert is not None for one in recorded),
        then=unusable + sum(one.alert != "unusable_picture" and one.score > threshold for one in recorded),
        unusable=unusable,
        oldest=times[0],
        newest=times[-1],
    )
