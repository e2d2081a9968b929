"""Print every alert, with Confluent's client: python consume.py [SERVERS [TOPIC [GROUP]]]; Ctrl-C ends it.

It needs `pip install confluent-kafka` and nothing of Quarterturn. An alert is a CloudEvent in Kafka's binary mode: its
attributes are headers, the value is the JSON of its data.
"""

from __future__ import annotations

import json
import sys

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
    """What is to be done about an alert. After a fault it may come again, with the same `ce_id`."""
    attributes = {name: value.decode() for name, value in message.headers()}
    data = json.loads(message.value())
    where = f"{data['camera']} {data['partId'] or 'a part without a name'}"
    why = data["reason"] or f"score {data['score']:.2f} above {data['threshold']:.2f}"
    print(f"{where}: {data['alert']}, {why} ({attributes['ce_id']})", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
