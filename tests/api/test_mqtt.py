"""examples/mqtt.py, on a real Kafka and a real broker of MQTT, with mosquitto's own client as listener."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from quarterturn.worker.messages.events import Event, Outcome
from tests.api.programs import Program, program
from tests.api.receivers import Mosquitto
from tests.api.sinks import Feed, attributes, of_kind, result, verdict_event
from tests.examples import frame, late, with_episode

CAMERA = "quarterturn/line-3/top-01"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with running(Mosquitto(tmp_path)) as started:
        yield started


@contextmanager
def running(broker: Mosquitto) -> Iterator[Mosquitto]:
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


class Listener:
    """What a client hears that subscribes to everything: at first what is retained."""

    def __init__(self, running: Program) -> None:
        self._running = running

    def hear(self, count: int) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._running.lines(count)]

    def events(self, count: int) -> list[dict[str, Any]]:
        """The next messages that are events; the bridge's and the cameras' states are left out."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            (message,) = self.hear(1)
            if message["topic"].split("/")[1] != "bridge" and not message["topic"].endswith("/state"):
                found.append(message)
        return found


@contextmanager
def listener(broker: Mosquitto, *login: str) -> Iterator[Listener]:
    where = ("-h", "127.0.0.1", "-p", str(broker.port), "-V", "5", "-q", "1", *login)
    # The broker's version is retained, so it says that the subscription stands.
    with program(["mosquitto_sub", *where, "-t", "$SYS/broker/version", "-t", "quarterturn/#", "-F", "%j"]) as started:
        heard = Listener(started)
        assert heard.hear(1)[0]["topic"] == "$SYS/broker/version"
        yield heard


def ids(*events: Event) -> list[str]:
    return [attributes(event)["id"] for event in events]


def heard_ids(messages: list[dict[str, Any]]) -> list[str]:
    return [message["properties"]["user-properties"]["id"] for message in messages]


OUTCOMES: dict[str, tuple[str, Outcome, str | None]] = {
    "good": ("verdict", result(0), "good"),
    "bad": ("verdict", result(1, "defect", part_id="Bügel 7"), "defect"),
    "late": ("late", late(frame(2)), "late"),
    "alert": ("alert", result(3, "defect"), None),
    "episode": ("episode", with_episode(result(4, "defect"), "raised"), None),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_each_event_comes_on_the_topic_of_its_camera_and_kind(feed: Feed, broker: Mosquitto, name: str) -> None:
    kind, outcome, state = OUTCOMES[name]
    event = of_kind(kind, outcome)
    feed.send(event)
    with listener(broker) as heard, feed.program("mqtt.py", broker.address) as bridge:
        messages = heard.hear(2 if state is None else 3)
        feed.wait_until_read()
        assert bridge.stop() == []
    by_topic = {message["topic"]: message for message in messages}
    assert by_topic[f"quarterturn/bridge/{feed.group}"]["payload"] == "online"
    got = by_topic[f"{CAMERA}/{kind}"]
    assert json.loads(got["payload"]) == json.loads(event.value)
    assert (got["qos"], got["properties"]["content-type"]) == (1, "application/json")
    assert got["properties"]["user-properties"] == attributes(event)
    assert (f"{CAMERA}/state" in by_topic) == (state is not None)
    if state is not None:
        said = json.loads(by_topic[f"{CAMERA}/state"]["payload"])
        assert (said["state"], said["resultId"]) == (state, outcome.data.result_id)
        assert said.get("score") == getattr(outcome.data, "score", None)


def test_a_line_and_a_camera_have_any_name(feed: Feed, broker: Mosquitto) -> None:
    feed.send(verdict_event(0, camera="oben/1 +#", job_id="Linie 3"))
    with listener(broker) as heard, feed.program("mqtt.py", broker.address) as bridge:
        assert {one["topic"] for one in heard.hear(3)} >= {
            "quarterturn/Linie%203/oben%2F1%20%2B%23/verdict",
            "quarterturn/Linie%203/oben%2F1%20%2B%23/state",
        }
        assert bridge.stop() == []


def test_who_comes_later_hears_each_cameras_last_state_and_nothing_else(feed: Feed, broker: Mosquitto) -> None:
    feed.send(verdict_event(0), verdict_event(1, "defect"), verdict_event(2, camera="side-01"))
    with feed.program("mqtt.py", broker.address) as bridge:
        feed.wait_until_read()
        with listener(broker) as heard:
            now = {message["topic"]: message for message in heard.hear(3)}
        assert set(now) == {f"{CAMERA}/state", "quarterturn/line-3/side-01/state", f"quarterturn/bridge/{feed.group}"}
        assert all(message["retain"] for message in now.values())
        states = [json.loads(now[topic]["payload"])["state"] for topic in sorted(now) if topic.endswith("/state")]
        assert states == ["good", "defect"]
        assert bridge.stop() == []


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_everybody_hears_that_it_ended(feed: Feed, broker: Mosquitto, how: str) -> None:
    """Also where it had no time to say so."""
    feed.send(verdict_event(0))
    with listener(broker) as heard, feed.program("mqtt.py", broker.address) as bridge:
        heard.hear(3)
        getattr(bridge, how)()
        (last,) = heard.hear(1)
    assert (last["topic"], last["payload"]) == (f"quarterturn/bridge/{feed.group}", "offline")
    with listener(broker) as later:
        states = {message["topic"]: message["payload"] for message in later.hear(2)}
    assert states[f"quarterturn/bridge/{feed.group}"] == "offline"


@pytest.mark.parametrize("at_first", [True, False])
def test_a_broker_that_is_away_loses_nothing(feed: Feed, broker: Mosquitto, at_first: bool) -> None:
    sent = [verdict_event(number) for number in range(250)]
    if at_first:
        broker.kill()
    with feed.program("mqtt.py", broker.address) as bridge:
        if not at_first:
            feed.send(verdict_event(999))
            feed.wait_until_read()
            broker.kill()
        before = feed.position()
        feed.send(*sent)
        assert "does not take messages" in bridge.lines(1)[0]
        assert feed.position() == before
        bridge.freeze()  # until somebody listens
        broker.start()
        with listener(broker) as heard:
            bridge.thaw()
            messages = heard.events(len(sent))
            feed.wait_until_read()
        assert bridge.lines(1) == ["it is back"]
        assert bridge.stop() == []
    assert heard_ids(messages) == ids(*sent)


def test_what_the_broker_does_not_permit_is_waited_for(feed: Feed, tmp_path: Path) -> None:
    """With QoS 1 it acknowledges such a message all the same, and says why it did not take it."""
    permissions = tmp_path / "acl"
    permissions.write_text("topic readwrite quarterturn/bridge/#\ntopic read #\n", encoding="utf-8")
    feed.send(verdict_event(0))
    with (
        running(Mosquitto(tmp_path, f"allow_anonymous true\nacl_file {permissions}")) as broker,
        feed.program("mqtt.py", broker.address) as bridge,
    ):
        assert "(Not authorized)" in bridge.lines(1)[0]
        assert feed.position() == 0
        permissions.write_text("topic readwrite #\ntopic read $SYS/#\n", encoding="utf-8")
        broker.reload()
        feed.wait_until_read()
        assert bridge.lines(1) == ["it is back"]
        with listener(broker) as heard:
            assert {message["topic"] for message in heard.hear(2)} >= {f"{CAMERA}/state"}
        assert bridge.stop() == []


def login(password: str) -> dict[str, str]:
    return {"MQTT_USER": "line", "MQTT_PASSWORD": password}


def test_it_logs_in(feed: Feed, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "line", "a word"], check=True)
    feed.send(verdict_event(0))
    with running(Mosquitto(tmp_path, f"password_file {passwords}")) as broker:
        with feed.program("mqtt.py", broker.address, **login("another")) as bridge:
            assert "(Not authorized)" in bridge.lines(1)[0]
            assert feed.position() == 0
            assert bridge.stop() == []
        with feed.program("mqtt.py", broker.address, **login("a word")) as bridge:
            feed.wait_until_read()
            assert bridge.stop() == []
        with listener(broker, "-u", "line", "-P", "a word") as heard:
            assert {message["topic"] for message in heard.hear(2)} >= {f"{CAMERA}/state"}


SOURCES = [b"/quarterturn/line-3", b"/other/line-3/top-01", b"/quarterturn/line-3/+", b"/quarterturn/line-3/#", b"x"]


def test_bad_events_are_skipped_and_said(feed: Feed, broker: Mosquitto) -> None:
    feed.send(verdict_event(0))
    bad = feed.put_bad()
    for source in SOURCES:
        feed.put(list((dict(verdict_event(1).headers) | {"ce_source": source}).items()), b"{}")
    feed.send(verdict_event(2))
    with listener(broker) as heard, feed.program("mqtt.py", broker.address) as bridge:
        assert heard_ids(heard.events(2)) == ids(verdict_event(0), verdict_event(2))
        feed.wait_until_read()
        said = bridge.stop()
    count = bad + len(SOURCES)
    assert [line.split(":")[0] for line in said] == [f"{feed.topic}[0]@{at} is skipped" for at in range(1, count + 1)]
