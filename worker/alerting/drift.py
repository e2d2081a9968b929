"""Whether a camera's pictures drift away from what is usual of its products, and which alerts that explains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import log10

from quarterturn.worker.alerting.ranks import UNCOUNTED, Past
from quarterturn.worker.alerting.track import Track, quantities_of
from quarterturn.worker.alerting.words import Reading, in_words, reading
from quarterturn.worker.contract.usual import KINDS, Measure, Measures
from quarterturn.worker.messages.alarms import Drift, Since, here, of_frame
from quarterturn.worker.messages.events import AlarmState, ResultData, Verdict
from quarterturn.worker.messages.history import History
from quarterturn.worker.settings.worker import DriftSettings

_COUNTED = (None, "defect")  # another product, or a part that lies turned, says nothing about the camera
_FEW = 8  # scores on end that say nothing: those of two or three parts are high by chance
_CAMERAS = 200  # of a worker that are watched: each takes half a megabyte, and anybody may make up names
_OF_A_PICTURE: tuple[Measure, ...] = ("brightness", "sharpness", "colour")
"""Measures by which a picture is unusable."""


@dataclass(frozen=True, slots=True)
class _Camera:
    """What is known of a camera by one bank; `past`: what its pictures of each product showed."""

    bank: str
    past: Mapping[str, Past] = field(default_factory=dict)
    tracks: Mapping[Measure, Track] = field(default_factory=dict)

    @property
    def drifting(self) -> dict[Measure, Track]:
        """The measures with an alarm."""
        return {measure: track for measure, track in self.tracks.items() if track.alarm is not None}

    def after(self, seen: Measures, at: Since, settings: DriftSettings, *, is_defect: bool) -> _Camera:
        """What is known after one more picture."""
        needed = log10(len(settings.measures) / settings.alpha)
        past, tracks = self.past.get(seen.usual.product, Past()), dict(self.tracks)
        bins = [UNCOUNTED] * len(KINDS)
        for measure in settings.measures:
            told = [(q, usual) for q in quantities_of(measure) if (usual := seen.usual.ranges[q]) is not None]
            if not told:
                continue
            before = self.tracks.get(measure) or Track.begin(measure, at)
            counts = not is_defect or measure != "score"  # how defects score is told by their alerts
            tracks[measure] = before.after(seen, past, at, needed, counts=counts)
            for q, usual in told if counts and before.alarm is None else ():  # what drifts is nothing to compare with
                bins[q] = usual.bin_of(seen.values[q])
        return _Camera(self.bank, {**self.past, seen.usual.product: past.and_one_more(bins)}, tracks)


class DriftWatch:
    """Raises an alarm where a measure of a camera's pictures drifts, and clears it; of one thread.

    The chance that a camera ever raises a false one by a bank is at most `alpha` of its settings. What is known is kept
    for each partition; it begins anew with the process and with another bank, and for a measure after its alarm.
    Simulated frames say nothing about the camera.
    """

    def __init__(self) -> None:
        self._history: History[_Camera] = History(_CAMERAS)

    def apply(self, verdict: Verdict, settings: DriftSettings | None) -> tuple[Verdict, bool]:
        """`verdict` with the alarms that its frame raises or clears; and whether an open one explains its alert."""
        data, seen = verdict.data, verdict.measures
        if settings is None or seen is None or data.is_simulated:
            return verdict, False
        known = self._history.before(data.camera, verdict.position) or _Camera(seen.usual.bank)
        before = known if known.bank == seen.usual.bank else _Camera(seen.usual.bank)
        after = before
        if data.alert in _COUNTED:
            after = before.after(seen, here(data), settings, is_defect=data.alert == "defect")
        self._history.put(data.camera, verdict.position, after)
        events = [*_replaced(known, before, data), *_changed(before.drifting, after.drifting, data, seen)]
        explained = data.alert is not None and _explains(after, before.tracks.get("score"), data, seen)
        return (replace(verdict, events=(*verdict.events, *events)) if events else verdict), explained


def _explains(camera: _Camera, scores: Track | None, data: ResultData, seen: Measures) -> bool:
    """Whether an alert has the same cause as an alarm: without the drift there would be none. `scores`: before it.

    An unusable picture: it is off in one of `_OF_A_PICTURE` as the last pictures were, by half as much at least. A
    defect: scores drift, or the picture is off in whatever does; and its score, less what scores have risen by of late,
    is within the threshold. Where scores have begun anew just now, they have not risen.
    """
    drifting = camera.drifting
    off = {measure for measure, track in drifting.items() if _is_off_like(track, seen)}
    if data.alert == "unusable_picture":
        return not off.isdisjoint(_OF_A_PICTURE)
    if data.alert != "defect" or scores is None or scores.recent < _FEW or not (off or "score" in drifting):
        return False
    (quantity,) = quantities_of("score")
    usual = seen.usual.ranges[quantity]
    return usual is not None and data.score - scores.off(quantity) * usual.spread <= data.threshold


def _is_off_like(track: Track, seen: Measures) -> bool:
    """Whether a picture is off as the last ones were, by half as much at least, in what raised the alarm."""
    alarm = track.alarm
    assert alarm is not None  # nobody asks of others
    usual, off = seen.usual.ranges[alarm.quantity], track.off(alarm.quantity)
    return usual is not None and off != 0 and usual.deviation(seen.values[alarm.quantity]) / off >= 0.5


def _replaced(known: _Camera, now: _Camera, data: ResultData) -> Iterator[Drift]:
    """The alarms by a bank that is no longer in service end with it."""
    if known is not now:
        for track in known.drifting.values():
            yield _event("cleared", track, data, None, "another bank is in service")


def _changed(
    before: Mapping[Measure, Track], after: Mapping[Measure, Track], data: ResultData, seen: Measures
) -> Iterator[Drift]:
    for measure, track in after.items():
        if measure not in before and track.alarm is not None:
            found = reading(track.alarm.quantity, track.off(track.alarm.quantity), seen)
            yield _event("raised", track, data, found, in_words(track.alarm.quantity, found))
    for measure, track in before.items():
        if measure not in after and track.alarm is not None:
            found = reading(track.alarm.quantity, track.off(track.alarm.quantity), seen)
            yield _event("cleared", track, data, found, f"{measure} is as usual again")


def _event(state: AlarmState, track: Track, data: ResultData, found: Reading | None, reason: str) -> Drift:
    alarm = track.alarm
    assert alarm is not None  # nobody asks of others
    return Drift(
        **of_frame(data),
        state=state,
        measure=track.measure,
        quantity=KINDS[alarm.quantity].name,
        since=alarm.since,
        frames=track.pictures,
        evidence=round(alarm.evidence, 3),
        usual=found and found.usual,
        present=found and found.present,
        reason=reason,
    )
