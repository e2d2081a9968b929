"""examples/webhook.py, on a real Kafka and against a real HTTP server that may fail."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from cloudevents.core.formats.json import JSONFormat

from quarterturn.worker.messages.events import Event
from tests.api.sinks import Feed, attributes, verdict_event
from tests.services import free_ports

KEY = bytes(range(24))
SECRET = "whsec_" + base64.b64encode(KEY).decode()  # pragma: allowlist secret


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent; answers with `answers`, the first first, and with 204 when none is left."""

    daemon_threads = True

    def __init__(self, port: int, *answers: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.url = f"http://127.0.0.1:{port}/hooks?line=3"
        self.answers = list(answers)
        self.requests: list[tuple[int, str, dict[str, str], bytes]] = []

    def identities(self, status: int = 204) -> list[str]:
        """Of the events that were answered so."""
        return [json.loads(body)["id"] for answer, _, _, body in self.requests if answer == status]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.answers.pop(0) if self.server.answers else 204
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((status, self.path, headers, body))
        if status == 0:  # hang up without a word
            return
        self.send_response(status)
        if status in {301, 307}:
            self.send_header("Location", self.server.url)
        text = b"no such part" if status >= 400 else b""
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@contextmanager
def receiver(*answers: int, port: int = 0) -> Iterator[Receiver]:
    with Receiver(port or free_ports(1)[0], *answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ids(*events: Event) -> list[str]:
    return [attributes(event)["id"] for event in events]


def test_each_event_is_a_signed_cloudevent_once(feed: Feed) -> None:
    sent = [verdict_event(0), verdict_event(1, "defect", part_id="Bügel 7")]
    with receiver() as server, feed.program("webhook.py", server.url, WEBHOOK_SECRET=SECRET) as running:
        feed.send(*sent)
        feed.wait_until_read()
        assert running.stop() == []
    assert server.identities() == ids(*sent)
    for event, (_, path, headers, body) in zip(sent, server.requests, strict=True):
        assert path == "/hooks?line=3"
        got = from_structured_event(HTTPMessage(headers, body), JSONFormat())
        assert got.get_data() == json.loads(event.value)
        assert {name: got.get_attributes()[name] for name in ("id", "source", "type")} == {
            name: attributes(event)[name] for name in ("id", "source", "type")
        }
        assert headers["webhook-id"] == attributes(event)["id"]
        assert abs(time.time() - int(headers["webhook-timestamp"])) < 60
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"


def test_trouble_of_the_receiver_is_waited_for(feed: Feed) -> None:
    """It hangs up, has trouble, is busy: the event comes again until it is taken, and the next one after it."""
    troubles = (500, 503, 429, 408, 0)
    sent = [verdict_event(0), verdict_event(1)]
    feed.send(*sent)
    with receiver(*troubles[:3]) as server, feed.program("webhook.py", server.url, WEBHOOK_SECRET=SECRET) as running:
        assert "answers 500" in running.lines(1)[0]
        assert feed.position() == 0
        feed.wait_until_read()
        assert running.lines(1) == ["it is back"]
        server.answers = list(troubles[3:])
        sent.append(verdict_event(2))
        feed.send(sent[2])
        feed.wait_until_read()
        assert "answers 408" in running.lines(1)[0]
        assert running.stop() == ["it is back"]
    assert server.identities() == ids(*sent)
    assert Counter(status for status, *_ in server.requests) == Counter((*troubles, 204, 204, 204))


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 422])
def test_what_is_refused_for_good_is_written_down_and_the_next_goes_on(
    feed: Feed, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sent = [verdict_event(0), verdict_event(1)]
    feed.send(*sent)
    with receiver(status) as server, feed.program("webhook.py", server.url, WEBHOOK_SECRET=SECRET) as running:
        feed.wait_until_read()
        assert running.stop() == [
            f"{feed.topic}[0]@0 is refused with {status}; it is in webhook-dead-letters.jsonl",
        ]
    assert server.identities() == ids(sent[1])
    (line,) = [json.loads(text) for text in (tmp_path / "webhook-dead-letters.jsonl").read_text().splitlines()]
    assert line["status"] == status
    assert line["place"] == f"{feed.topic}[0]@0"
    assert line["answer"] == ("no such part" if status >= 400 else "")
    assert line["event"]["id"] == ids(sent[0])[0]
    assert line["event"]["data"] == json.loads(sent[0].value)


def test_a_receiver_that_is_away_loses_nothing(feed: Feed) -> None:
    (port,) = free_ports(1)
    sent = [verdict_event(number) for number in range(5)]
    feed.send(*sent)
    with feed.program("webhook.py", f"http://127.0.0.1:{port}/hooks", WEBHOOK_SECRET=SECRET) as running:
        assert "does not answer" in running.lines(1)[0]
        with receiver(port=port) as server:
            feed.wait_until_read()
            assert running.lines(1) == ["it is back"]
        assert running.stop() == []
    assert server.identities() == ids(*sent)


def test_bad_events_are_skipped_and_said(feed: Feed) -> None:
    feed.send(verdict_event(0))
    bad = feed.put_bad()
    feed.send(verdict_event(1))
    with receiver() as server, feed.program("webhook.py", server.url, WEBHOOK_SECRET=SECRET) as running:
        feed.wait_until_read()
        said = running.stop()
    assert server.identities() == ids(verdict_event(0), verdict_event(1))
    assert [line.split(":")[0] for line in said] == [f"{feed.topic}[0]@{at} is skipped" for at in range(1, bad + 1)]


def test_the_next_run_goes_on_where_the_last_one_ended(feed: Feed) -> None:
    with receiver() as server:
        for number in range(2):
            with feed.program("webhook.py", server.url, WEBHOOK_SECRET=SECRET) as running:
                feed.send(verdict_event(number))
                feed.wait_until_read()
                assert running.stop() == []
        assert server.identities() == ids(verdict_event(0), verdict_event(1))


@pytest.mark.parametrize(
    ("url", "secret", "said"),
    [
        ("localhost:80", SECRET, "localhost:80 is no web address"),
        ("ftp://localhost/", SECRET, "ftp://localhost/ is no web address"),
        ("http://localhost/", "", "WEBHOOK_SECRET is not set"),
        ("http://localhost/", "whsec_c2hvcnQ=", "WEBHOOK_SECRET is not set to 24 bytes"),
        ("http://localhost/", "whsec_" + "é" * 40, "WEBHOOK_SECRET is not set to 24 bytes"),
    ],
)
def test_what_cannot_work_is_refused_at_once(feed: Feed, url: str, secret: str, said: str) -> None:
    with feed.program("webhook.py", url, WEBHOOK_SECRET=secret) as running:
        (line,) = running.ended(1)
    assert line.startswith(said)


def test_standard_webhooks_own_example_is_signed_alike() -> None:
    """The oracle above, on the example of the specification's libraries."""
    key, signed = (
        base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}',
    )
    mac = hmac.new(key, signed, hashlib.sha256).digest()
    assert base64.b64encode(mac) == b"g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="  # pragma: allowlist secret
