"""Which alerts of a camera are published, which are held, and how runs of them are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from quarterturn.worker.alerting.runs import Run, Trouble
from quarterturn.worker.contract.silence import Silence
from quarterturn.worker.contract.times import parse_time
from quarterturn.worker.messages.alarms import Episode, here, of_frame, time_of
from quarterturn.worker.messages.events import AlarmState, AlertKind, Held, ResultData, Verdict
from quarterturn.worker.messages.history import History
from quarterturn.worker.settings.worker import AlertSettings

Silences = Callable[[], Sequence[Silence]]
"""Those that are known now."""

_CALM = Trouble()


@dataclass(frozen=True, slots=True)
class _Camera:
    """What is known of a camera after one of its frames: of its alerts about parts, and of those about the picture."""

    part: Trouble = _CALM
    picture: Trouble = _CALM

    def concerned(self, data: ResultData) -> Trouble:
        return self.picture if _is_of_the_picture(data) else self.part

    def after(self, data: ResultData, settings: AlertSettings) -> _Camera:
        """An unusable picture says nothing about the part: it neither goes on with a run of bad ones nor ends it."""
        alert = here(data) if data.alert else None
        if _is_of_the_picture(data):
            return _Camera(self.part, self.picture.after(alert, settings))
        return _Camera(self.part.after(alert, settings), self.picture.after(None, settings))

    def alerted(self, kind: AlertKind, data: ResultData) -> _Camera:
        later = self.concerned(data).alerted(kind, parse_time(time_of(data)).timestamp())
        return replace(self, picture=later) if _is_of_the_picture(data) else replace(self, part=later)


class Hygiene:
    """Holds alerts as the settings of their cameras ask, and tells of runs; of one thread.

    Alerts about the picture (`unusable_picture`) and about the part (all others) have their own runs and pauses.
    Simulated frames count by themselves, so that no trial holds the alert of a real part.
    """

    def __init__(self, silences: Silences) -> None:
        self._silences = silences
        self._real: History[_Camera] = History()
        self._simulated: History[_Camera] = History()

    def apply(self, verdict: Verdict, settings: AlertSettings, drifting: bool) -> Verdict:
        """`verdict` with what is decided of its alert; `drifting`: an alarm of a drift explains it."""
        data, held = verdict.data, None
        history = self._simulated if data.is_simulated else self._real
        before = history.before(data.camera, verdict.position) or _Camera()
        after = before.after(data, settings)
        if data.alert is not None:
            held = self._held(after, data, settings, drifting)
            after = after.alerted(data.alert, data) if held is None else after
        history.put(data.camera, verdict.position, after)
        told = tuple(_episodes(before, after, data, held)) if settings.group_runs else ()
        return replace(verdict, held=held, events=(*verdict.events, *told))

    def _held(self, now: _Camera, data: ResultData, settings: AlertSettings, drifting: bool) -> Held | None:
        """Why the alert of `data` is held; `now` counts its frame already."""
        time, product = parse_time(time_of(data)), data.product_id or data.predicted_product
        if any(silence.covers(data.camera, product, time) for silence in self._silences()):
            return "silenced"
        if settings.hold_while_drifting and drifting:
            return "inhibited"
        if settings.hold_while_unusable and now.picture.run and not _is_of_the_picture(data):
            return "inhibited"
        return now.concerned(data).holds(time.timestamp(), settings)


def _episodes(before: _Camera, after: _Camera, data: ResultData, held: Held | None) -> Iterator[Episode]:
    """What is told of runs with the frame of `data`; `held` is why its alert is."""
    for earlier, later in ((before.part.run, after.part.run), (before.picture.run, after.picture.run)):
        if earlier is not None and earlier.told and later is None:
            yield _episode("cleared", earlier, data)
        if later is None or not later.told or later == earlier:
            continue
        if earlier is None or not earlier.told:
            yield _episode("raised", later, data)
        elif held == "in_a_run" and _is_round(later.count):
            yield _episode("grown", later, data)


def _episode(state: AlarmState, run: Run, data: ResultData) -> Episode:
    return Episode(
        **of_frame(data),
        state=state,
        kind=run.told,
        since=run.since,
        count=run.count,
    )


def _is_of_the_picture(data: ResultData) -> bool:
    return data.alert == "unusable_picture"


def _is_round(count: int) -> bool:
    """Whether it is 10, 100, 1000 and so on."""
    return count > 1 and str(count).strip("0") == "1"
