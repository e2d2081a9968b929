"""Streams of measures through the tests of drift, without pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from quarterturn.worker.alerting.alerting import Alerting
from quarterturn.worker.alerting.drift import DriftWatch
from quarterturn.worker.contract.usual import KINDS, Measure, Measures, Usual
from quarterturn.worker.messages.alarms import Drift
from quarterturn.worker.messages.events import AlertKind, Verdict
from quarterturn.worker.settings.worker import CameraSettings, DriftSettings
from tests import examples

Values = npt.NDArray[np.float64]

MIDDLE = np.array([1.0, 120.0, 0.5, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0])
SPREAD = np.array([0.3, 8.0, 0.1, 0.05, 0.06, 0.02, 0.02, 2.0, 0.05])
QUANTITIES = [kind.name for kind in KINDS]
OF = {kind.name: kind.measure for kind in KINDS}
FALL = [kind.name for kind in KINDS if kind.falls]
Told = tuple[int, str, str]


def good(rng: np.random.Generator, count: int) -> Values:
    return np.asarray(MIDDLE + SPREAD * rng.normal(size=(count, len(KINDS))))


def usual_of(
    rng: np.random.Generator, count: int = 100, *, bank: str = "bank", product: str = "ring", told: float = 1
) -> Usual:
    return Usual.of(bank, product, good(rng, count).tolist(), np.full(4, told))


def verdict(
    values: Sequence[float], usual: Usual, offset: int, alert: AlertKind | None = None, **changes: Any
) -> Verdict:
    made = examples.verdict(examples.frame(offset), alert)
    data = made.data.model_copy(update={"score": values[0], "threshold": 1.8, **changes})
    return replace(made, data=data, measures=Measures(tuple(values), usual, (640, 480)))


def stream(values: Values, usual: Usual, start: int = 0) -> list[Verdict]:
    return [verdict(one, usual, n) for n, one in enumerate(values.tolist(), start)]


def applied(watch: DriftWatch, verdicts: Sequence[Verdict], settings: DriftSettings | None = None) -> Iterator[Drift]:
    for one in verdicts:
        found, _ = watch.apply(one, settings or DriftSettings())
        yield from (event for event in found.events if isinstance(event, Drift))


def told(events: Iterator[Drift]) -> list[Told]:
    return [(event.frame.offset, event.state, event.measure) for event in events]


def shifted(values: Values, quantity: str, spreads: float, begin: int = 0) -> Values:
    moved = values.copy()
    moved[begin:, QUANTITIES.index(quantity)] += spreads * SPREAD[QUANTITIES.index(quantity)]
    return moved


@pytest.mark.parametrize("alpha", [0.2, 0.05])
def test_false_alarms_are_no_more_than_promised(alpha: float) -> None:
    """Of calibrations and streams together, in which any order is as likely: few calibration pictures, ties, too."""
    rng, cameras, alarms = np.random.default_rng(5), 200, 0
    for n in range(cameras):
        values = good(rng, 15 + 100)
        if n % 2:
            values = np.round(values / SPREAD) * SPREAD  # ties, within what any quantity may wander or not
        usual = Usual.of("bank", "ring", values[:15].tolist(), np.ones(4))
        alarms += any(applied(DriftWatch(), stream(values[15:], usual), DriftSettings(alpha=alpha)))
    assert alarms <= alpha * cameras + 3 * np.sqrt(alpha * (1 - alpha) * cameras)


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize(("spreads", "within"), [(1, 300), (2, 50), (4, 25)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_shift_is_found_and_named(quantity: str, spreads: float, within: int, sign: int) -> None:
    """One spread after a thousand frames: the most of 20 streams took 253 frames, most fewer than 100."""
    if sign < 0 and quantity not in FALL:
        return
    rng = np.random.default_rng(QUANTITIES.index(quantity))
    usual, begin = usual_of(rng), 1000
    values = shifted(good(rng, begin + within), quantity, sign * spreads, begin)
    (first, *_) = applied(DriftWatch(), stream(values, usual))
    assert (first.state, first.measure, first.quantity) == ("raised", OF[quantity], quantity)
    assert begin < first.frame.offset < begin + within
    assert first.evidence >= np.log10(5 / 0.001)
    assert first.usual is not None
    assert first.present is not None
    assert np.sign(first.present - first.usual) == sign
    assert first.frames == first.frame.offset + 1


@pytest.mark.parametrize("quantity", [one for one in QUANTITIES if one != "score"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_shift_of_pictures_that_were_all_alike_is_found(quantity: str, sign: int) -> None:
    """Such as the colours of grey pictures."""
    alike = np.tile(MIDDLE, (100, 1))
    usual = Usual.of("bank", "ring", alike.tolist(), np.ones(4))
    values = np.tile(MIDDLE, (600, 1))
    values[500:, QUANTITIES.index(quantity)] += sign * 4 * KINDS[QUANTITIES.index(quantity)].finest
    (first, *_) = applied(DriftWatch(), stream(values, usual))
    assert (first.measure, first.quantity) == (OF[quantity], quantity)
    assert 500 <= first.frame.offset < 540


def test_the_alarm_says_since_when_and_by_how_much() -> None:
    rng = np.random.default_rng(2)
    values = shifted(shifted(good(rng, 560), "x", 4, 500), "brightness", -3, 520)
    found = {event.measure: event for event in applied(DriftWatch(), stream(values, usual_of(rng)))}
    assert set(found) == {"registration", "brightness"}
    x, light = found["registration"], found["brightness"]
    assert 495 <= int(x.since.result_id.rpartition(":")[2]) <= 503
    assert 515 <= int(light.since.result_id.rpartition(":")[2]) <= 523
    assert (x.usual, x.present) == (0, pytest.approx(4 * 0.02 * 640, rel=0.2))
    assert x.reason.startswith("parts lie further right, by about ")
    assert (light.usual, light.present) == (pytest.approx(120, abs=3), pytest.approx(96, abs=5))
    assert light.reason.startswith("pictures are darker: brightness 9")
    assert x.about != light.about


def test_it_is_raised_once_and_cleared_when_the_measure_is_back() -> None:
    rng = np.random.default_rng(3)
    values = good(rng, 1200)
    values[300:600] = shifted(values[300:600], "sharpness", -3)
    values[900:] = shifted(values[900:], "sharpness", -3)
    found = told(applied(DriftWatch(), stream(values, usual_of(rng))))
    assert [(state, measure) for _, state, measure in found] == [
        ("raised", "sharpness"),
        ("cleared", "sharpness"),
        ("raised", "sharpness"),
    ]
    (raised, *_), (cleared, *_), (again, *_) = found
    assert 300 < raised < 335
    assert 632 <= cleared < 720
    assert 900 < again < 935


def test_frames_that_come_again_after_a_rewind_change_nothing() -> None:
    rng = np.random.default_rng(4)
    usual = usual_of(rng)
    verdicts = stream(shifted(good(rng, 400), "brightness", 3, 300), usual)
    once = told(applied(DriftWatch(), verdicts))
    assert len(once) == 1
    watch, again = DriftWatch(), []
    for begin in range(0, 400, 50):
        batch = verdicts[begin : begin + 50]
        first = told(applied(watch, batch))
        for back in (0, 20, 49):
            assert told(applied(watch, batch[back:])) == [one for one in first if one[0] >= begin + back]
        again += first
    assert again == once


def test_another_bank_begins_anew_and_ends_what_was_raised() -> None:
    rng = np.random.default_rng(6)
    usual = usual_of(rng)
    darker = shifted(good(rng, 200), "brightness", -4)
    watch = DriftWatch()
    (raised,) = applied(watch, stream(darker[:60], usual))
    learned = Usual.of("another bank", "ring", shifted(good(rng, 100), "brightness", -4).tolist(), np.ones(4))
    (cleared,) = applied(watch, stream(darker[60:], learned, 60))
    assert (raised.state, raised.measure) == ("raised", "brightness")
    assert (cleared.state, cleared.measure, cleared.frame.offset) == ("cleared", "brightness", 60)
    assert cleared.since == raised.since
    assert cleared.reason == "another bank is in service"


def test_cameras_and_products_are_compared_each_with_its_own() -> None:
    """Two products that differ by ten spreads, in turn; and a camera beside one that drifts."""
    rng = np.random.default_rng(7)
    ring = usual_of(rng)
    other = Usual.of("bank", "nut", shifted(good(rng, 100), "brightness", 10).tolist(), np.zeros(4))
    watch = DriftWatch()
    for n in range(300):
        own = good(rng, 1)
        one, two = verdict(own[0].tolist(), ring, 3 * n), shifted(own, "brightness", 10)[0].tolist()
        drifting = verdict(shifted(own, "brightness", 5)[0].tolist(), ring, 3 * n + 2, camera="side-01")
        found = told(applied(watch, [one, verdict(two, other, 3 * n + 1), drifting]))
        assert {offset % 3 for offset, *_ in found} <= {2}
    assert n == 299


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, True),
        ({"alert": "defect"}, True),
        ({"alert": "unusable_picture"}, False),
        ({"alert": "wrong_product"}, False),
        ({"alert": "wrong_orientation"}, False),
        ({"is_simulated": True}, False),
    ],
    ids=str,
)
def test_which_frames_say_something_about_the_camera(changes: dict[str, Any], counts: bool) -> None:
    rng = np.random.default_rng(8)
    usual = usual_of(rng)
    dark = shifted(good(rng, 60), "brightness", -5).tolist()
    found = [*applied(DriftWatch(), [verdict(one, usual, n, **changes) for n, one in enumerate(dark)])]
    assert bool(found) is counts


def test_measures_are_chosen_and_there_may_be_none() -> None:
    rng = np.random.default_rng(9)
    usual = usual_of(rng)
    verdicts = stream(shifted(shifted(good(rng, 80), "y", 5), "sharpness", 5), usual)
    chosen: tuple[Measure, ...] = ("registration", "score")
    assert {event.measure for event in applied(DriftWatch(), verdicts, DriftSettings(measures=chosen))} == {
        "registration"
    }
    found = Alerting({"top-01": CameraSettings(drift=None)}).apply(verdicts)
    assert all(isinstance(one, Verdict) and not one.events for one in found)
    silent = [replace(one, measures=None) for one in verdicts]
    assert not [*applied(DriftWatch(), silent)]


def test_motions_that_a_product_does_not_tell_are_not_looked_at() -> None:
    rng = np.random.default_rng(10)
    usual = usual_of(rng, told=0)
    values = shifted(shifted(good(rng, 100), "x", 9), "brightness", 4)
    assert {event.measure for event in applied(DriftWatch(), stream(values, usual))} == {"brightness"}


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_defects_are_no_drift(share: float) -> None:
    rng = np.random.default_rng(11)
    usual, values = usual_of(rng), good(rng, 4000)
    bad = rng.random(len(values)) < share
    verdicts = [
        verdict([one[0] + 9 * is_bad, *one[1:]], usual, n, "defect" if is_bad else None)
        for n, (one, is_bad) in enumerate(zip(values.tolist(), bad.tolist(), strict=True))
    ]
    assert not [*applied(DriftWatch(), verdicts)]


def test_defects_on_end_are_no_drift_of_the_score() -> None:
    rng = np.random.default_rng(15)
    usual = usual_of(rng)
    bad = shifted(good(rng, 300), "score", 9).tolist()
    assert not [*applied(DriftWatch(), [verdict(one, usual, n, "defect") for n, one in enumerate(bad)])]


def test_light_that_wanders_over_the_day_is_no_drift() -> None:
    """A fifth of a spread up and down, and bank and line a fifth apart."""
    rng = np.random.default_rng(12)
    usual, values = usual_of(rng), good(rng, 6000)
    values += SPREAD * (0.2 + 0.2 * np.sin(np.arange(6000) / 300))[:, None]
    assert not [*applied(DriftWatch(), stream(values, usual), DriftSettings(measures=("brightness", "sharpness")))]


def explained(settings: CameraSettings, usual: Usual, values: Values, last: Verdict) -> str | None:
    """Why the alert of `last` is held after a stream of these values."""
    *_, outcome = Alerting({"top-01": settings}).apply([*stream(values, usual), last])
    assert isinstance(outcome, Verdict)
    assert outcome.data == last.data
    return outcome.held


@pytest.mark.parametrize("hold", [True, False])
def test_alerts_that_a_drift_explains_are_held_and_no_others(hold: bool) -> None:
    rng = np.random.default_rng(13)
    usual = usual_of(rng)
    settings = CameraSettings.model_validate({"alerts": {"hold_while_drifting": hold}})
    held = "inhibited" if hold else None

    def said(values: Values, alert: AlertKind, **off: float) -> str | None:
        last = MIDDLE.copy()
        for name, spreads in off.items():
            last[QUANTITIES.index(name)] += spreads * SPREAD[QUANTITIES.index(name)]
        return explained(settings, usual, values, verdict(last.tolist(), usual, 999, alert))

    calm, glossy, dark = good(rng, 60), shifted(good(rng, 60), "score", 3), shifted(good(rng, 60), "brightness", -4)
    moved = shifted(shifted(good(rng, 60), "x", 4), "score", 3)
    assert said(calm, "defect", score=4) is None
    assert said(glossy, "defect", score=4) == held
    assert said(glossy, "defect", score=12) is None, "it is a defect beyond what has risen"
    assert said(glossy, "wrong_product", score=4) is None
    assert said(glossy, "unusable_picture", brightness=-9) is None
    assert said(dark, "unusable_picture", brightness=-9) == held
    assert said(dark, "unusable_picture", brightness=9) is None
    assert said(dark, "unusable_picture", sharpness=-9) is None
    assert said(dark, "defect", score=4, brightness=-4) is None, "scores have not risen"
    assert said(moved, "defect", score=4, x=4) == held


@pytest.mark.parametrize("seed", range(20))
def test_a_defect_does_not_explain_itself(seed: int) -> None:
    """Whatever the scores before it happened to be: they have not risen."""
    rng = np.random.default_rng(seed)
    usual, settings = usual_of(rng), CameraSettings()
    dark, last = shifted(good(rng, 40 + seed), "brightness", -4), MIDDLE.copy()
    last[:2] += [1.2, -32]
    assert explained(settings, usual, dark, verdict(last.tolist(), usual, 999, "defect")) is None


def test_defects_of_a_camera_that_moved_are_explained_by_that_though_no_good_part_is_left() -> None:
    """The score of defects is no drift, and how far it has risen is known all the same."""
    rng = np.random.default_rng(14)
    usual = usual_of(rng)
    for quantity, expected in (("x", "inhibited"), ("score", None)):
        values = shifted(shifted(good(rng, 60), "score", 9), quantity, 5).tolist()
        verdicts = [verdict(one, usual, n, "defect") for n, one in enumerate(values)]
        *_, last = Alerting().apply(verdicts)
        assert isinstance(last, Verdict)
        assert last.held == expected
