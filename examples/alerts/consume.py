"""Print the alerts topic with Confluent's client: python consume.py [SERVERS [TOPIC [GROUP]]]; Ctrl-C ends it.

It needs `pip install confluent-kafka` and nothing of Quarterturn. Alerts, and what is told of runs of them (episodes)
and of cameras that drift, are CloudEvents in Kafka's binary mode: their attributes are headers, `ce_type` says which it
is, and the value is the JSON of the data.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message


def main(servers: str = "localhost:9092", topic: str = "alerts", group: str = "alerts-example") -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",  # else alerts that were taken back are seen, too
        }
    )
    consumer.subscribe([topic])
    try:
        while True:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if error := message.error():
                raise KafkaException(error)
            handle(message)
            consumer.commit(message, asynchronous=False)  # after it was handled, so that no alert is lost
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()


def handle(message: Message) -> None:
    """What is to be done about an event. After a fault it may come again, with the same `ce_id`."""
    attributes = {name: value.decode() for name, value in message.headers()}
    data = json.loads(message.value())
    words = {
        "quarterturn.alert.v1": alert,
        "quarterturn.episode.v1": episode,
        "quarterturn.drift.v1": drift,
    }.get(attributes["ce_type"], other)
    print(f"{data['camera']}{words(data)} ({attributes['ce_id']})", flush=True)


def alert(data: dict[str, Any]) -> str:
    why = data["reason"] or f"score {data['score']:.2f} above {data['threshold']:.2f}"
    return f" {data['partId'] or 'a part without a name'}: {data['alert']}, {why}"


def episode(data: dict[str, Any]) -> str:
    """Of a run of alerts, of which only the first is published: it has begun, goes on, or is over."""
    state = {"raised": "has begun", "grown": "goes on", "cleared": "is over"}[data["state"]]
    return f": a run {state}, {data['count']} x {data['kind']} since {data['since']['time']}"


def drift(data: dict[str, Any]) -> str:
    """Of pictures that are no longer as they were: since when, and what it looks like."""
    return f": {data['reason']} (drift {data['state']}, since {data['since']['time']})"


def other(data: dict[str, Any]) -> str:
    """Of events that came after this program was written."""
    return f": {data.get('state', 'something')}"


if __name__ == "__main__":
    main(*sys.argv[1:])
