"""Hand events to a web address, signed: WEBHOOK_SECRET=whsec_... python webhook.py URL [SERVERS [TOPICS [GROUP]]]

It needs `pip install confluent-kafka`. Each event is a POST of one CloudEvent in HTTP's structured mode, a JSON object
of attributes and data, signed as Standard Webhooks (standardwebhooks.com) says, so there are libraries that check it.
WEBHOOK_SECRET is `whsec_` and at least 24 random bytes in base64. The header `webhook-id` is the event's id: what comes
twice has the same. A receiver that is away, busy (408, 429) or in trouble (5xx) is waited for. What it refuses
otherwise is added to the file webhook-dead-letters.jsonl, with its answer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from events import AwayError, Event, Reader, forward, say

DEAD_LETTERS = Path("webhook-dead-letters.jsonl")
BUSY = {408, 429}
TIMEOUT_S = 10.0


class Webhook:
    """A receiver behind a URL, and the secret that it shares with us."""

    def __init__(self, url: str, secret: str) -> None:
        self._url = urlsplit(url)
        if self._url.scheme not in {"http", "https"} or not self._url.hostname:
            sys.exit(f"{url} is no web address; write one such as https://mes.example/quarterturn")
        try:
            self._key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except ValueError:
            self._key = b""
        if len(self._key) < 24:
            sys.exit("WEBHOOK_SECRET is not set to 24 bytes in base64; make one: echo whsec_$(openssl rand -base64 24)")

    def deliver(self, events: Sequence[Event]) -> None:
        for event in events:
            status, answer = self._post(event)
            if status in BUSY or status >= 500:
                raise AwayError(f"{self._url.hostname} answers {status}")
            if not 200 <= status < 300:  # a redirection, too: a POST must not follow it
                _give_up(event, status, answer)

    def _post(self, event: Event) -> tuple[int, str]:
        """The answer of the receiver: its status, and the beginning of its text."""
        secure = self._url.scheme == "https"
        connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = connect(str(self._url.hostname), self._url.port, timeout=TIMEOUT_S)
        target = self._url._replace(scheme="", netloc="", fragment="").geturl() or "/"
        body = body_of(event)
        try:
            connection.request("POST", target, body, self._headers(event.attributes["id"], body))
            response = connection.getresponse()
            return response.status, response.read(500).decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise AwayError(f"{self._url.hostname} does not answer ({str(error) or type(error).__name__})") from None
        finally:
            connection.close()

    def _headers(self, identity: str, body: bytes) -> dict[str, str]:
        now_s = str(int(time.time()))
        return {
            "Content-Type": "application/cloudevents+json; charset=utf-8",
            "webhook-id": identity,
            "webhook-timestamp": now_s,
            "webhook-signature": signature(self._key, identity, now_s, body),
        }


def body_of(event: Event) -> bytes:
    """A CloudEvent in structured mode (CloudEvents 1.0.2, HTTP Protocol Binding, section 3.2)."""
    envelope = {**event.attributes, "datacontenttype": "application/json", "data": event.data}
    return json.dumps(envelope).encode()


def signature(key: bytes, identity: str, timestamp_s: str, body: bytes) -> str:
    """Standard Webhooks 1.0.0, "Signature scheme": HMAC-SHA256 of `id.timestamp.body`, in base64."""
    signed = b".".join([identity.encode(), timestamp_s.encode(), body])
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _give_up(event: Event, status: int, answer: str) -> None:
    say(f"{event.place} is refused with {status}; it is in {DEAD_LETTERS}")
    line = {"place": event.place, "status": status, "answer": answer, "event": json.loads(body_of(event))}
    with DEAD_LETTERS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())  # before the position is committed


def main(url: str, servers: str = "localhost:9092", topics: str = "alerts", group: str = "webhook") -> None:
    webhook = Webhook(url, os.environ.get("WEBHOOK_SECRET", ""))
    # One at a time: a receiver may be slow, and what it has must not be sent again because of the next.
    forward(Reader(servers, topics, group), lambda event: event, webhook.deliver, at_once=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
