"""One measure of a camera, followed from picture to picture: the bets on its quantities, and its alarm."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from math import log10

from quarterturn.worker.alerting.martingale import BETS, evidence, in_hand, play
from quarterturn.worker.alerting.ranks import Past
from quarterturn.worker.contract.usual import KINDS, Measure, Measures
from quarterturn.worker.messages.alarms import Since

_RECENT = 32  # pictures, over about which the present is averaged
_CALM = 0.5  # spreads off what is usual: a measure that is no further off is back ...
_CALM_FOR = 32  # ... once it was so for so many pictures
_FURTHEST = 10.0  # spreads that one picture counts, and twice the present: none makes the present by itself


@dataclass(frozen=True, slots=True)
class Alarm:
    """Raised with so many log₁₀ of evidence, by a quantity which drifts since then; `calm` pictures were as usual."""

    quantity: int
    since: Since
    evidence: float
    calm: int = 0


@dataclass(frozen=True, slots=True)
class Track:
    """What is known after `pictures` of them. It never changes: frames that come again find it as it was.

    `stakes` are the gambler's on each quantity of the measure, rising and falling. `began` is the picture since which
    they have won more than they lost, by a factor of 10^`won` (Page 1954), `recent` pictures ago. `present` is how many
    spreads off its middle each quantity has lain since then, or of late.
    """

    measure: Measure
    pictures: int
    began: Since
    recent: int
    won: float
    stakes: array[float]
    present: array[float]
    alarm: Alarm | None = None

    @classmethod
    def begin(cls, measure: Measure, at: Since) -> Track:
        """Before the first picture, which is at `at`."""
        quantities = quantities_of(measure)
        series = sum(_SIDES[q] for q in quantities)
        return cls(measure, 0, at, 0, 0.0, _zeros(series * len(BETS)), _zeros(len(quantities)))

    def after(self, seen: Measures, past: Past, at: Since, needed: float, *, counts: bool) -> Track:
        """What is known after one more picture, compared with `past`; an alarm needs evidence of so many log₁₀.

        One that does not count is seen, and nothing is bet on it.
        """
        present, recent = self._averaged(seen), self.recent + 1
        if not counts:
            return replace(self, present=present, recent=recent)
        if self.alarm is not None:
            return self._watched(self.alarm, present, recent, at)
        stakes, pictures, kept = self.stakes[:], self.pictures + 1, in_hand(self.pictures + 1)
        joins = in_hand(self.pictures) - kept
        self._play(stakes, joins, seen, past)
        won = self.won + log10(sum(stakes) / (sum(self.stakes) + joins * len(stakes)))
        found = evidence(stakes, kept)
        alarm = Alarm(self._richest(stakes), self.began, found) if found >= needed else None
        if won <= 0:
            return Track(self.measure, pictures, at, 0, 0.0, stakes, present, alarm)
        return Track(self.measure, pictures, self.began, recent, won, stakes, present, alarm)

    def off(self, quantity: int) -> float:
        """How many spreads off its middle the q-th quantity, one of this measure's, has lain of late."""
        return self.present[quantities_of(self.measure).index(quantity)]

    def _averaged(self, seen: Measures) -> array[float]:
        weight, averaged = 1 / min(self.recent + 1, _RECENT), self.present[:]
        for n, q in enumerate(quantities_of(self.measure)):
            if (usual := seen.usual.ranges[q]) is not None:
                most, off = _FURTHEST + 2 * abs(averaged[n]), usual.deviation(seen.values[q])
                averaged[n] += weight * (max(-most, min(off, most)) - averaged[n])
        return averaged

    def _play(self, stakes: array[float], joins: float, seen: Measures, past: Past) -> None:
        """Change the stakes by what is seen."""
        series = 0
        for quantity in _QUANTITIES[self.measure]:
            usual = seen.usual.ranges[quantity]
            ranks = (None, None) if usual is None else past.ranks(quantity, seen.values[quantity], usual)
            for rank in ranks[: _SIDES[quantity]]:
                play(stakes, series, joins, rank)
                series += 1

    def _watched(self, alarm: Alarm, present: array[float], recent: int, at: Since) -> Track:
        """While the alarm is raised nothing is bet; it ends when all is as usual for a while, and all begins anew."""
        kinds = [KINDS[q] for q in quantities_of(self.measure)]
        off = max(abs(off) if kind.falls else off for off, kind in zip(present, kinds, strict=True))
        calm = alarm.calm + 1 if off <= _CALM else 0
        if calm == _CALM_FOR:
            return Track.begin(self.measure, at)
        return replace(self, present=present, recent=recent, alarm=replace(alarm, calm=calm))

    def _richest(self, stakes: array[float]) -> int:
        """The quantity on which most was won."""
        series = [quantity for quantity in _QUANTITIES[self.measure] for _ in range(_SIDES[quantity])]
        bets = len(BETS)
        return max((sum(stakes[n * bets : (n + 1) * bets]), quantity) for n, quantity in enumerate(series))[1]


def quantities_of(measure: Measure) -> list[int]:
    """Their indices."""
    return _QUANTITIES[measure]


_QUANTITIES: dict[Measure, list[int]] = {}
for _q, _kind in enumerate(KINDS):
    _QUANTITIES.setdefault(_kind.measure, []).append(_q)
_SIDES = [2 if kind.falls else 1 for kind in KINDS]
"""Of each quantity: a series of bets on rising and, where it can, one on falling."""


def _zeros(count: int) -> array[float]:
    return array("d", bytes(8 * count))
