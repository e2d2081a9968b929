"""What is held and what is told, in examples that a person can follow; `test_plain_oracle.py` has all the others."""

from __future__ import annotations

from typing import Any

import pytest

from quarterturn.worker.alerting.alerting import Alerting
from quarterturn.worker.alerting.hygiene import Hygiene
from quarterturn.worker.contract.silence import Silence
from quarterturn.worker.messages.events import Verdict
from quarterturn.worker.settings.worker import AlertSettings, CameraSettings
from tests import examples
from tests.worker.alerting.frames import alerting, at, decided, line, published, told, verdict


def silence(**changes: Any) -> Silence:
    between = {"starts": at(10), "ends": at(20), "reason": "the lamp is changed"}
    return Silence.model_validate(between | changes)


def test_by_default_every_alert_is_published_and_nothing_else() -> None:
    for of in (Alerting(), alerting()):
        verdicts = decided(of, line("d.duudtppp..u"))
        assert published(verdicts) == "d.duudtppp..u"
        assert told(verdicts) == []


@pytest.mark.parametrize(
    ("at_least", "of_last", "signs", "expected"),
    [
        (2, 2, "d.dd.ddd", "-.-d.-dd"),
        (2, 3, "d.dd..d.", "-.dd..-."),
        (3, 3, "ddd.ddd", "--d.--d"),
        (2, 3, "dtp", "-tp"),  # parts are wrong, each in another way
        (2, 2, "du.ud", "--.--"),  # a picture that cannot be judged says nothing about the part
        (2, 2, "duud", "--ud"),  # so the parts before and behind it are two in a row
        (2, 2, "uu.u", "-u.-"),
    ],
)
def test_so_many_of_the_last_must_be_alerts(at_least: int, of_last: int, signs: str, expected: str) -> None:
    of = alerting(at_least=at_least, of_last=of_last, hold_while_unusable=False)
    verdicts = decided(of, line(signs))
    assert published(verdicts) == expected
    assert {one.held for one in verdicts} <= {None, "too_few"}


def test_after_an_alert_there_is_a_pause() -> None:
    verdicts = decided(alerting(cool_down_s=3), line("dddddd.d"))
    assert published(verdicts) == "d--d--.d"
    assert {one.held for one in verdicts} == {None, "cool_down"}


def test_the_pause_of_alerts_about_parts_holds_none_about_the_picture() -> None:
    assert published(decided(alerting(cool_down_s=60), line("dudutp"))) == "du----"


def test_a_pause_is_of_the_frames_own_time() -> None:
    """A backlog is inspected within a second, and its alerts are as far apart as its frames."""
    backlog = [verdict("d", n, second=60 * n, inspected=7200 + n / 10) for n in range(3)]
    assert published(decided(alerting(cool_down_s=30), backlog)) == "ddd"
    without_times = [verdict("d", n, inspected=10 * n) for n in range(5)]
    assert published(decided(alerting(cool_down_s=30), without_times)) == "d--d-"


def test_a_clock_that_was_ahead_holds_nothing_when_it_is_right_again() -> None:
    frames = [verdict("d", 0, second=86400.0), verdict("d", 1, second=1), verdict("d", 2, second=2)]
    assert published(decided(alerting(cool_down_s=30), frames)) == "dd-"


@pytest.mark.parametrize("captured_at", ["0001-01-01T00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_time_that_no_clock_shows_is_no_fault(captured_at: str) -> None:
    made = verdict("d", 0, second=0)
    frame = made.data.frame.model_copy(update={"captured_at": captured_at})
    strange = verdict("d", 0, frame=frame)
    settings = {"top-01": CameraSettings(alerts=AlertSettings(cool_down_s=5))}
    of = Alerting(settings, lambda: [silence(camera="top-01")])
    assert published(decided(of, [strange, verdict("d", 1, second=30)])) == "dd"


def test_a_run_is_one_alert_and_is_told_when_it_begins_grows_and_ends() -> None:
    verdicts = decided(alerting(group_runs=True), line("." + 14 * "d" + ".t."))
    assert published(verdicts) == "." + "d" + 13 * "-" + ".t."
    assert {one.held for one in verdicts} == {None, "in_a_run"}
    assert told(verdicts) == [
        (1, "raised", "defect", "frames:0:1", 1),
        (10, "grown", "defect", "frames:0:1", 10),
        (15, "cleared", "defect", "frames:0:1", 14),
        (16, "raised", "wrong_orientation", "frames:0:16", 1),
        (17, "cleared", "wrong_orientation", "frames:0:16", 1),
    ]
    assert {event.since.time for event in verdicts[10].events} == {at(1)}


def test_a_run_grows_by_tenfolds() -> None:
    verdicts = decided(alerting(group_runs=True), line(1100 * "d"))
    assert [event[-1] for event in told(verdicts)] == [1, 10, 100, 1000]


def test_a_run_of_few_among_many_ends_when_none_is_left() -> None:
    verdicts = decided(alerting(group_runs=True, at_least=2, of_last=3), line("d.d..d...d"))
    assert published(verdicts) == "-.d..-...-"
    assert told(verdicts) == [
        (2, "raised", "defect", "frames:0:0", 2),
        (8, "cleared", "defect", "frames:0:0", 3),
    ]


def test_runs_of_parts_and_of_pictures_go_on_side_by_side() -> None:
    verdicts = decided(alerting(group_runs=True), line("dduud."))
    assert published(verdicts) == "d-u--."
    assert [event[:3] for event in told(verdicts)] == [
        (0, "raised", "defect"),
        (2, "raised", "unusable_picture"),
        (4, "cleared", "unusable_picture"),
        (5, "cleared", "defect"),
    ]


def test_no_alert_about_a_part_while_pictures_come_and_go_unusable() -> None:
    """A lamp that flickers: a part that was seen in between shows the lamp, not itself."""
    signs = "udud...d"
    verdicts = decided(alerting(of_last=3), line(signs))
    assert published(verdicts) == "u-u-...d"
    assert verdicts[1].held == "inhibited"
    assert published(decided(alerting(of_last=3, hold_while_unusable=False), line(signs))) == signs


def test_no_alert_that_a_drift_explains_unless_that_is_asked_for() -> None:
    for hold, expected in ((True, "----"), (False, "dtpu")):
        hygiene, settings = Hygiene(tuple), AlertSettings(hold_while_drifting=hold)
        verdicts = [hygiene.apply(one, settings, drifting=True) for one in line("dtpu")]
        assert published(verdicts) == expected
        assert {one.held for one in verdicts} <= {None, "inhibited"}


@pytest.mark.parametrize(
    ("silenced", "expected"),
    [
        ({"camera": "top-01"}, "ddd"),
        ({"camera": "top-01", "product": "screw"}, "ddd"),
        ({"product": "screw"}, "ddd"),
        ({"camera": "side-01"}, "dddddd"),
        ({"product": "nut"}, "dddddd"),
        ({"camera": "top-01", "product": "nut"}, "dddddd"),
    ],
    ids=str,
)
def test_a_silence_is_of_a_camera_a_product_or_both_and_has_its_time(silenced: dict[str, str], expected: str) -> None:
    of = Alerting({}, lambda: [silence(camera="nobody"), silence(**silenced)])
    seconds = (0, 9.999, 10, 15, 19.999, 20)
    verdicts = decided(of, [verdict("d", n, second=second) for n, second in enumerate(seconds)])
    assert published(verdicts).replace("-", "") == expected
    assert [one.held for one in verdicts[2:5]] == ["silenced" if expected == "ddd" else None] * 3


def test_a_silence_of_a_product_goes_by_what_was_declared_first() -> None:
    of = Alerting({}, lambda: [silence(product="screw")])
    frames = [verdict("p", 0, second=15, product_id="nut"), verdict("p", 1, second=15, product_id="screw")]
    assert [one.held for one in decided(of, frames)] == [None, "silenced"]


def test_a_run_that_a_silence_covered_is_told_when_the_silence_is_over() -> None:
    settings = {"top-01": CameraSettings(alerts=AlertSettings(group_runs=True))}
    of = Alerting(settings, lambda: [silence(camera="top-01")])
    verdicts = decided(of, [verdict("d", n, second=n) for n in range(8, 24)] + [verdict(".", 24, second=24)])
    assert published(verdicts) == "d" + 15 * "-" + "."
    verdicts = decided(of, [verdict("d", n, second=n) for n in range(112, 124)])
    assert told(verdicts) == [
        (112, "raised", "defect", "frames:0:112", 1),
        (121, "grown", "defect", "frames:0:112", 10),
    ]
    hidden = decided(Alerting(settings, lambda: [silence(camera="top-01")]), line(12 * "." + 12 * "d" + "."))
    assert published(hidden) == 12 * "." + 8 * "-" + "d---."
    assert [event[:2] + event[3:] for event in told(hidden)] == [
        (20, "raised", "frames:0:12", 9),
        (21, "grown", "frames:0:12", 10),
        (24, "cleared", "frames:0:12", 12),
    ]


def test_a_silence_ends_no_episode_in_silence() -> None:
    settings = {"top-01": CameraSettings(alerts=AlertSettings(group_runs=True))}
    of = Alerting(settings, lambda: [silence(camera="top-01")])
    verdicts = decided(of, line(8 * "." + "dddddd" + "."))
    assert [event[:2] for event in told(verdicts)] == [(8, "raised"), (14, "cleared")]


def test_silences_are_asked_for_anew() -> None:
    known: list[Silence] = []
    of = Alerting({}, lambda: known)
    assert published(decided(of, [verdict("d", 0, second=15)])) == "d"
    known.append(silence(camera="top-01"))
    assert published(decided(of, [verdict("d", 1, second=15)])) == "-"


def test_a_trial_with_simulated_frames_holds_no_alert_of_a_real_part() -> None:
    of = alerting(cool_down_s=60, group_runs=True)
    trial, real = line("dd", is_simulated=True), [verdict("d", 2, second=2)]
    assert published(decided(of, trial)) == "d-"
    assert published(decided(of, real)) == "d"


def test_late_frames_and_dead_letters_pass_and_count_for_nothing() -> None:
    of = alerting(at_least=2, of_last=2)
    one, late, letter, other = (
        verdict("d", 0),
        examples.late(examples.frame(1)),
        examples.dead_letter(examples.frame(2)),
        verdict("d", 3),
    )
    outcomes = of.apply([one, late, letter, other])
    assert outcomes[1:3] == [late, letter]
    assert published([found for found in outcomes if isinstance(found, Verdict)]) == "-d"


def test_cameras_and_partitions_have_states_of_their_own() -> None:
    same = CameraSettings(alerts=AlertSettings(group_runs=True))
    of = Alerting({"top-01": same, "side-01": same})
    frames = [verdict("d", 0), verdict("d", 1, camera="side-01"), verdict("d", 0, partition=1), verdict("d", 2)]
    assert published(decided(of, frames)) == "ddd-"
