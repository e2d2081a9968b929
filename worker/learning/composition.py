"""Of which pictures a calibration must be made so that its promise is true of the parts that come now.

Pictures that people called good after an alert are no sample of the good parts: all of them scored beyond the
threshold. A calibration of such alone would reject far fewer than promised, one that gathers more and more of them
would let defects pass, and one without them says nothing of a new kind of part. So the good parts of now are taken for
a mixture: a share 1 − e like the calibration of the version in service, which rejects a = k/(n+1) of those, and a share
e of a new kind, of which it rejects all. Of all good parts it rejects s = (1 − e) a + e, so e = (s − a) / (1 − a).
docs/decisions/0041 has the reasons, and what this does not promise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from quarterturn.worker.contract.calibration import Promise
from quarterturn.worker.contract.chance import most_rejected

_ROUNDING = 1e-9
_DOUBT = 0.01  # chance with which a line that keeps its promise is taken for one that does not


@dataclass(frozen=True, slots=True)
class Stream:
    """What the version in service said of the last frames of one product, and people of these.

    `results` frames, of which `beyond` the threshold; of these `good` and `bad` ones were judged by people.
    """

    results: int = 0
    beyond: int = 0
    good: int = 0
    bad: int = 0

    @property
    def rejected(self) -> float:
        """The share of good parts that was rejected, if those judged stand for all beyond it; unless any were, all."""
        judged = self.good + self.bad
        good_beyond = self.beyond * (self.good / judged if judged else 1.0)
        parts = self.results - (self.beyond - good_beyond)
        return good_beyond / parts if parts > 0 else 0.0


def new_share(stream: Stream, promise: Promise) -> float:
    """The share e of a new kind among the good parts; 0 where as many rejected ones are no surprise to the promise."""
    rejected = stream.rejected
    count = round(rejected * stream.results)
    if count <= most_rejected(stream.results, promise.pictures, promise.rank, _DOUBT):
        return 0.0
    return max(0.0, (rejected - promise.average) / (1 - promise.average))


@dataclass(frozen=True, slots=True)
class Mixture:
    """How many calibrate: `before` of those of the version in service, and `new` ones."""

    before: int
    new: int


def mixture(before: int, new: int, share: float, needed: int) -> Mixture | None:
    """The most pictures of which at least the share `share` is new, of `before` and `new` that there are.

    `needed` are the fewest that the promise can be made of; None: there are too few.
    """
    if share <= 0:
        return Mixture(before, 0)
    if share >= 1:
        return Mixture(0, new) if new >= needed else None
    old_kept = min(before, math.floor(new * (1 - share) / share + _ROUNDING))
    enough = max(math.ceil(old_kept * share / (1 - share) - _ROUNDING), needed - old_kept)
    return Mixture(old_kept, enough) if enough <= new else None


def new_needed(before: int, share: float, needed: int) -> int:
    """How many new ones the smallest `mixture` has."""
    return next(count for count in range(1, needed + 1) if mixture(before, count, share, needed) is not None)
