"""Everything at once, with random rewinds, beside an oracle that goes over whole lists of frames and keeps no state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.worker.alerting.alerting import Alerting
from quarterturn.worker.settings.worker import AlertSettings, CameraSettings
from tests.worker.alerting.frames import KINDS, decided, published, told, verdict

CAMERAS = ("top-01", "side-01")


class Sent(NamedTuple):
    camera: str
    partition: int
    sign: str
    second: float


@dataclass(frozen=True)
class Decision:
    held: bool
    told: tuple[tuple[str, str, int, int], ...] = ()  # state, kind, first frame and count of each episode


def oracle(frames: Sequence[tuple[int, Sent]], asked: AlertSettings) -> list[Decision]:
    """Of all frames of one camera and partition, with their offsets."""
    decisions: list[Decision] = []
    out: list[int] = []  # which alerts were published, by their place in `frames`
    for n, (_, frame) in enumerate(frames):
        held = False
        if frame.sign != ".":
            mine = [m for m in relevant(frames[: n + 1], frame.sign == "u") if is_bad(frames[m][1], frame.sign == "u")]
            window = relevant(frames[: n + 1], frame.sign == "u")[-asked.of_last :]
            run = open_run(frames[: n + 1], asked, frame.sign == "u")
            before = [m for m in out if m in mine]
            since = frame.second - frames[before[-1]][1].second if before else None
            held = (
                len([m for m in window if m in mine]) < asked.at_least
                or (asked.group_runs and any(m in run for m in before))
                or (since is not None and 0 <= since < asked.cool_down_s)
                or (asked.hold_while_unusable and frame.sign != "u" and open_run(frames[: n + 1], asked, True) != [])
            )
            out += [] if held else [n]
        episodes = tuple(one for picture in (False, True) for one in told_of(frames[: n + 1], out, asked, picture))
        decisions.append(Decision(held, episodes if asked.group_runs else ()))
    return decisions


def relevant(frames: Sequence[tuple[int, Sent]], picture: bool) -> list[int]:
    """The frames that say something about the picture, or about the part."""
    return [n for n, (_, frame) in enumerate(frames) if picture or frame.sign != "u"]


def is_bad(frame: Sent, picture: bool) -> bool:
    return frame.sign == "u" if picture else frame.sign in "dtp"


def open_run(frames: Sequence[tuple[int, Sent]], asked: AlertSettings, picture: bool) -> list[int]:
    """The alerts of the run that goes on after the last of `frames`; none: there is no run."""
    run: list[int] = []
    said = relevant(frames, picture)
    for end in range(1, len(said) + 1):
        bad = [n for n in said[max(0, end - asked.of_last) : end] if is_bad(frames[n][1], picture)]
        if not bad:
            run = []
        elif run or len(bad) >= asked.at_least:
            run = sorted({*run, *bad})
    return run


def told_of(
    frames: Sequence[tuple[int, Sent]], out: Sequence[int], asked: AlertSettings, picture: bool
) -> list[tuple[str, str, int, int]]:
    """What is to be told of a run with the last of `frames`, when the alerts `out` were published up to now."""
    last = len(frames) - 1
    now, before = open_run(frames, asked, picture), open_run(frames[:-1], asked, picture)
    of_now, of_before = [n for n in out if n in now], [n for n in out if n in before]
    if of_before and not now:
        return [("cleared", str(KINDS[frames[of_before[0]][1].sign]), frames[before[0]][0], len(before))]
    if not of_now:
        return []
    said = (str(KINDS[frames[of_now[0]][1].sign]), frames[now[0]][0], len(now))
    if of_now == [last]:
        return [("raised", *said)]
    window = relevant(frames, picture)[-asked.of_last :]
    enough = len([n for n in window if is_bad(frames[n][1], picture)]) >= asked.at_least
    inhibited = asked.hold_while_unusable and not picture and open_run(frames, asked, True)
    if now[-1] == last and enough and not inhibited and len(now) in (10, 100):
        return [("grown", *said)]
    return []


kinds = st.sampled_from([".", ".", "d", "d", "d", "t", "u"])
sent = st.lists(
    st.builds(Sent, st.sampled_from(CAMERAS), st.integers(0, 1), kinds, st.integers(0, 60)), max_size=60
) | st.lists(st.builds(Sent, st.just("top-01"), st.just(0), kinds, st.integers(0, 9)), min_size=20, max_size=60)


@st.composite
def asked_for(draw: st.DrawFn) -> AlertSettings:
    of_last = draw(st.integers(1, 5))
    return AlertSettings(
        at_least=draw(st.integers(1, of_last)),
        of_last=of_last,
        cool_down_s=draw(st.sampled_from([0, 0, 5, 30])),
        group_runs=draw(st.booleans()),
        hold_while_unusable=draw(st.booleans()),
    )


@settings(max_examples=200)
@given(sent, asked_for(), st.data())
def test_each_alert_is_decided_as_the_oracle_says_also_when_frames_come_again(
    frames: list[Sent], asked: AlertSettings, data: st.DataObject
) -> None:
    alerting = Alerting(dict.fromkeys(CAMERAS, CameraSettings(alerts=asked)))
    places = {(one.camera, one.partition) for one in frames}
    wanted: dict[int, Decision] = {}
    for camera, partition in places:
        mine = [(n, one) for n, one in enumerate(frames) if (one.camera, one.partition) == (camera, partition)]
        wanted |= dict(zip((n for n, _ in mine), oracle(mine, asked), strict=True))
    done = 0
    while done < len(frames):
        back = data.draw(st.integers(0, done))  # the batch before was taken back, or never delivered
        end = data.draw(st.integers(done + 1, len(frames)))
        batch = [
            verdict(one.sign, n, partition=one.partition, second=one.second, camera=one.camera)
            for n, one in enumerate(frames[back:end], back)
        ]
        for n, one in enumerate(decided(alerting, batch), back):
            found = tuple((event[1], event[2], int(event[3].rpartition(":")[2]), event[4]) for event in told([one]))
            assert Decision(published([one]) == "-", found) == wanted[n]
        done = end
