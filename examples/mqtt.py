"""Hand results on to an MQTT broker: python mqtt.py [HOST[:PORT] [SERVERS [TOPICS [GROUP]]]]

It needs `pip install confluent-kafka paho-mqtt` and a broker that speaks MQTT 5. With QoS 1 it publishes on

    quarterturn/LINE/CAMERA/KIND    every event, in CloudEvents' binary mode: its attributes are user properties
    quarterturn/LINE/CAMERA/state   the camera's last result in a few words, retained
    quarterturn/bridge/GROUP        `online`, or `offline` when this program has ended or is cut off; retained

where KIND is verdict, late, alert, ... Names are percent-encoded, as in `source`. Run one such program for a GROUP. It
logs in with MQTT_USER and MQTT_PASSWORD of the environment; for TLS add `client.tls_set()` in `_connect`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NoReturn

from events import AwayError, Event, Reader, forward
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

TIMEOUT_S = 10.0
STATE = ("resultId", "creationTime", "partId", "productId", "isSimulated", "alert", "score", "threshold")


@dataclass(frozen=True)
class Post:
    """What is published on one topic of MQTT."""

    topic: str
    payload: bytes
    retain: bool
    attributes: dict[str, str]


def posts_of(event: Event) -> list[Post]:
    """The event itself, and the camera's state where it tells of a frame."""
    camera = event.attributes["source"].strip("/")
    if len(camera.split("/")) < 3 or not camera.startswith("quarterturn/") or set(camera) & {"+", "#"}:
        raise ValueError(f"its source {event.attributes['source']!r} is no camera of a line")
    posts = [Post(f"{camera}/{event.kind}", event.value, retain=False, attributes=event.attributes)]
    if event.kind in {"verdict", "late"}:
        state = {"state": event.data.get("alert") or ("late" if event.kind == "late" else "good")}
        state |= {name: event.data[name] for name in STATE if name in event.data}
        posts.append(Post(f"{camera}/state", json.dumps(state).encode(), retain=True, attributes={}))
    return posts


class Broker:
    """A broker of MQTT; connected when it is first needed, and anew after each failure."""

    def __init__(self, address: str, name: str) -> None:
        self._host, _, port = address.partition(":")
        self._port = int(port or 1883)
        self._name = name
        self._client: Client | None = None
        self._refusal = ""

    def deliver(self, batches: Sequence[list[Post]]) -> None:
        client = self._client = self._client or self._connect()
        posts = [post for batch in batches for post in batch]
        try:
            sent = [client.publish(one.topic, one.payload, 1, one.retain, _properties(one)) for one in posts]
            for one in sent:
                one.wait_for_publish(TIMEOUT_S)
            missing = sum(not one.is_published() for one in sent)
        except RuntimeError as error:  # the connection is gone
            self._fail(str(error))
        if self._refusal or missing:
            self._fail(self._refusal or f"{missing} of {len(sent)} messages were not acknowledged")

    def close(self) -> None:
        """Leave with the last will: the broker publishes `offline`."""
        if self._client:
            self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
            self._client.loop_stop()
            self._client = None

    def _connect(self) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, f"quarterturn-{self._name}", protocol=MQTTv5)
        client.username_pw_set(os.environ.get("MQTT_USER") or None, os.environ.get("MQTT_PASSWORD") or None)
        status = f"quarterturn/bridge/{self._name}"
        client.will_set(status, b"offline", qos=1, retain=True)
        answered = threading.Event()

        def on_connect(client: Client, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
            self._refusal = str(reason) if reason.is_failure else ""
            if not reason.is_failure:
                client.publish(status, b"online", qos=1, retain=True)
            answered.set()

        def on_publish(_client: Client, _userdata: Any, _mid: int, reason: ReasonCode, _properties: Any) -> None:
            if reason.is_failure:  # for paho it is published all the same
                self._refusal = str(reason)

        client.on_connect, client.on_publish = on_connect, on_publish
        self._client, self._refusal = client, ""
        try:
            client.connect(self._host, self._port, keepalive=30)
        except OSError as error:
            self._fail(str(error))
        client.loop_start()
        if not answered.wait(TIMEOUT_S) or self._refusal:
            self._fail(self._refusal or "it does not answer")
        return client

    def _fail(self, why: str) -> NoReturn:
        """Give this connection up, with all that waits in it: it comes again."""
        self.close()
        raise AwayError(f"the broker at {self._host}:{self._port} does not take messages ({why})")


def _properties(post: Post) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = "application/json"
    if post.attributes:
        properties.UserProperty = list(post.attributes.items())
    return properties


def main(
    broker: str = "localhost:1883",
    servers: str = "localhost:9092",
    topics: str = "verdicts,alerts",
    group: str = "mqtt",
) -> None:
    with closing(Broker(broker, group)) as receiver:
        forward(Reader(servers, topics, group), posts_of, receiver.deliver)


if __name__ == "__main__":
    main(*sys.argv[1:])
