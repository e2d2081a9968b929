"""Whether a camera's pictures drift away from what is usual of its products, and which alerts that explains."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import log10

from quarterturn.worker.alerting.track import Alarm, Place, Track, no_counts, quantities_of
from quarterturn.worker.alerting.words import Reading, said
from quarterturn.worker.contract.usual import KINDS, Measure, Measures
from quarterturn.worker.messages.alarms import Drift, Since
from quarterturn.worker.messages.events import AlarmState, ResultData, Verdict
from quarterturn.worker.messages.history import History
from quarterturn.worker.settings.worker import DriftSettings

_COUNTED = (None, "defect")  # another product, or one that lies turned, says nothing about the camera
_BY_PICTURE: tuple[Measure, ...] = ("brightness", "sharpness")  # measures that make a picture unusable


@dataclass(frozen=True, slots=True)
class _Camera:
    """What is known of a camera by one bank. `counts`: by product, what the stream showed of each quantity."""

    bank: str
    counts: Mapping[str, tuple[array[int], ...]]
    tracks: Mapping[Measure, Track]

    @property
    def alarms(self) -> dict[Measure, Track]:
        """The measures that drift."""
        return {measure: track for measure, track in self.tracks.items() if track.alarm is not None}

    def after(self, seen: Measures, at: Place, settings: DriftSettings) -> _Camera:
        """What is known after one more picture at `at`."""
        needed = log10(len(settings.measures) / settings.alpha)
        counts = self.counts.get(seen.usual.product) or tuple(no_counts() for _ in KINDS)
        tracks, counted = dict(self.tracks), list(counts)
        for measure in settings.measures:
            told = [q for q in quantities_of(measure) if seen.usual.ranges[q] is not None]
            if not told:
                continue
            before = self.tracks.get(measure) or Track.begin(measure, at)
            tracks[measure] = before.after(seen, counts, at, needed)
            for q in told if before.alarm is None else ():
                counted[q] = _with_one_more(counted[q], seen, q)
        return _Camera(self.bank, {**self.counts, seen.usual.product: tuple(counted)}, tracks)


class DriftWatch:
    """Raises an alarm where a measure of a camera's pictures drifts, and clears it; of one thread.

    The chance of any false alarm of a camera, from a bank's first picture on, is at most `alpha` of its settings. What
    is known is kept for each partition, and begins anew with the process, with another bank, and after an alarm.
    Simulated frames say nothing about the camera.
    """

    def __init__(self) -> None:
        self._history: History[_Camera] = History()

    def apply(self, verdict: Verdict, settings: DriftSettings | None) -> tuple[Verdict, bool]:
        """`verdict` with the alarms that its frame raises or clears, and whether one that is raised explains its alert."""
        data, seen = verdict.data, verdict.measures
        if settings is None or seen is None or data.is_simulated:
            return verdict, False
        known = self._history.before(data.camera, verdict.position)
        before = known if known and known.bank == seen.usual.bank else _Camera(seen.usual.bank, {}, {})
        events = [] if known in (None, before) else [*_ended(known, data, seen)]
        after = before
        if data.alert in _COUNTED:
            after = before.after(seen, (data.result_id, _time(data)), settings)
            events += _changed(before, after, data, seen)
        self._history.put(data.camera, verdict.position, after)
        return replace(verdict, events=(*verdict.events, *events)), _explains(after.alarms, data, seen)


def _with_one_more(counts: array[int], seen: Measures, quantity: int) -> array[int]:
    usual = seen.usual.ranges[quantity]
    assert usual is not None  # of those that are told
    more = counts[:]
    more[usual.bin_of(seen.values[quantity])] += 1
    return more


def _explains(alarms: Mapping[Measure, Track], data: ResultData, seen: Measures) -> bool:
    """Whether the alert is of the same cause as an alarm: without the drift there would be none.

    A defect: its score, less what scores have risen by, is within the threshold. An unusable picture: it lies off in
    brightness or sharpness as the last pictures did, by half as much at least.
    """
    if data.alert == "defect" and (track := alarms.get("score")):
        usual = seen.usual.ranges[quantities_of("score")[0]]
        return usual is not None and data.score - track.present[0] * usual.spread <= data.threshold
    if data.alert == "unusable_picture":
        for measure in _BY_PICTURE:
            usual = seen.usual.ranges[q := quantities_of(measure)[0]]
            if usual and (track := alarms.get(measure)) and usual.deviation(seen.values[q]) / track.present[0] >= 0.5:
                return True
    return False


def _changed(before: _Camera, after: _Camera, data: ResultData, seen: Measures) -> Iterator[Drift]:
    for measure, track in after.alarms.items():
        if measure not in before.alarms and track.alarm is not None:
            yield _event("raised", measure, track, track.alarm, data, seen)
    for measure, track in before.alarms.items():
        if measure not in after.alarms and track.alarm is not None:
            yield _event("cleared", measure, track, track.alarm, data, seen)
