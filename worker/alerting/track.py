"""One measure of a camera, followed from picture to picture: the bets on its quantities, and its alarm."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

from quarterturn.worker.alerting.martingale import BETS, evidence, in_hand, play
from quarterturn.worker.contract.usual import BINS, KINDS, Measure, Measures

_RECENT = 32  # pictures, over about which the present is averaged
_CALM = 0.5  # spreads off what is usual: a measure that is no further off is back ...
_CALM_FOR = 32  # ... once it was so for so many pictures
_FURTHEST = 10.0  # spreads that one picture counts: none makes the present by itself

Counts = Sequence["array[int]"]
"""For each of the Q quantities (BINS,): how many pictures of the stream showed what."""

Place = tuple[str, str]
"""The result of a picture, and its time."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Raised with so many log₁₀ of evidence, by a quantity which drifts since then; `calm` pictures were as usual."""

    quantity: int
    since: Place
    evidence: float
    calm: int = 0


@dataclass(frozen=True, slots=True)
class Track:
    """What is known after `pictures` of them. It never changes: frames that come again find it as it was.

    `stakes` are the gambler's on each quantity of the measure, rising and falling; `present` is how many spreads off
    its middle each has lain of late: since the picture `began`, when nothing was won yet, `recent` pictures ago.
    """

    measure: Measure
    pictures: int
    began: Place
    recent: int
    stakes: array[float]
    present: array[float]
    alarm: Alarm | None = None

    @classmethod
    def begin(cls, measure: Measure, at: Place) -> Track:
        """Before the first picture, which is at `at`."""
        series, quantities = len(_series(measure)), len(quantities_of(measure))
        return cls(measure, 0, at, 0, _zeros(series * len(BETS)), _zeros(quantities))

    def after(self, seen: Measures, counts: Counts, at: Place, needed: float) -> Track:
        """What is known after one more picture; an alarm needs evidence of so many log₁₀.

        `counts` are those of the pictures before it that may be compared with it.
        """
        now = replace(self, present=self._averaged(seen), recent=self.recent + 1)
        if now.alarm is not None:
            return now._watched(now.alarm, at)
        stakes, joins = self.stakes[:], in_hand(self.pictures) - in_hand(self.pictures + 1)
        for s, (quantity, rising) in enumerate(_series(self.measure)):
            play(stakes, s, joins, _rank(seen, quantity, rising, counts[quantity]))
        now = replace(now, pictures=self.pictures + 1, stakes=stakes)
        found = evidence(stakes, now.pictures)
        if found >= needed:
            return replace(now, alarm=Alarm(now._richest(), self.began, found))
        return now if found > 0 else replace(now, began=at, recent=0)

    def _averaged(self, seen: Measures) -> array[float]:
        weight, averaged = 1 / min(self.recent + 1, _RECENT), self.present[:]
        for n, q in enumerate(quantities_of(self.measure)):
            if (usual := seen.usual.ranges[q]) is not None:
                off = max(-_FURTHEST, min(usual.deviation(seen.values[q]), _FURTHEST))
                averaged[n] += weight * (off - averaged[n])
        return averaged

    def _watched(self, alarm: Alarm, at: Place) -> Track:
        """While the alarm is raised nothing is bet; it ends when all is as usual for a while, and all begins anew."""
        kinds = [KINDS[q] for q in quantities_of(self.measure)]
        off = max(abs(off) if kind.falls else off for off, kind in zip(self.present, kinds, strict=True))
        if off > _CALM:
            return replace(self, alarm=replace(alarm, calm=0))
        if alarm.calm + 1 < _CALM_FOR:
            return replace(self, alarm=replace(alarm, calm=alarm.calm + 1))
        return Track.begin(self.measure, at)

    def _richest(self) -> int:
        """The quantity on which most was won."""
        bets = len(BETS)
        won = [sum(self.stakes[s * bets : (s + 1) * bets]) for s in range(len(self.stakes) // bets)]
        return _series(self.measure)[won.index(max(won))][0]


def quantities_of(measure: Measure) -> list[int]:
    """Their indices."""
    return _QUANTITIES[measure]


def _series(measure: Measure) -> list[tuple[int, bool]]:
    """The quantities that are bet on, each rising and, where it can, falling."""
    return _SERIES[measure]


_QUANTITIES: dict[Measure, list[int]] = {}
for _q, _kind in enumerate(KINDS):
    _QUANTITIES.setdefault(_kind.measure, []).append(_q)
_SERIES = {
    measure: [(q, rising) for q in found for rising in ((True, False) if KINDS[q].falls else (True,))]
    for measure, found in _QUANTITIES.items()
}


def _rank(seen: Measures, quantity: int, rising: bool, counts: Sequence[int]) -> float | None:
    usual = seen.usual.ranges[quantity]
    if usual is None:
        return None
    return (usual.rank_high if rising else usual.rank_low)(seen.values[quantity], counts)


def _zeros(count: int) -> array[float]:
    return array("d", bytes(8 * count))


def no_counts() -> array[int]:
    """Of one quantity that no picture has shown yet."""
    return array("I", bytes(4 * BINS))
