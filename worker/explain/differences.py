"""Whether a frame that is judged anew gets the verdict that was recorded, and if not, what differs."""

from __future__ import annotations

import math

from quarterturn.worker.inspection.judge import Judgement
from quarterturn.worker.messages.events import ResultData

TOLERANCE = 0.005
"""Of a score, as a share of it and as such: an engine rounds otherwise where a frame is in another batch."""


def is_same_score(one: float, other: float) -> bool:
    """Whether two scores are the same but for rounding."""
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def differences(judgement: Judgement, recorded: ResultData) -> tuple[str, ...]:
    """A sentence for each thing that is not as it was recorded; none where all is the same."""
    found = []
    if not is_same_score(judgement.score, recorded.score):
        found.append(
            f"WARNING: the score is {judgement.score:.4g} now, but the recorded verdict says {recorded.score:.4g}, by "
            "the same engine, bank and frame; give the camera the region and bit_depth that it had then"
        )
    if not is_same_score(judgement.threshold, recorded.threshold):
        found.append(
            f"the threshold is {judgement.threshold:.4g} by the settings here, but was {recorded.threshold:.4g} then; "
            "'overkill' or 'thresholds' were changed since, or the product"
        )
    if judgement.alert != recorded.alert:
        found.append(
            f"it is {_in_words(judgement.alert)} by the settings here, but was {_in_words(recorded.alert)} then"
        )
    elif judgement.nearest != recorded.predicted_product:
        found.append(f"it looks like {judgement.nearest} now, but was recorded as {recorded.predicted_product}")
    return tuple(found)


def _in_words(alert: str | None) -> str:
    return "within its threshold" if alert is None else f"an alert of the kind {alert}"
