"""Metrics and health over HTTP: `/metrics`, `/healthz`, `/readyz`."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.runtime.metrics import CONTENT_TYPE, CommonMetrics
from quarterturn.worker.runtime.vitals import Vitals
from quarterturn.worker.settings.worker import HttpSettings

_POLL_S = 0.05  # how soon it hears that it is to end; Python's own half a second would hold up every stop


class HealthServer:
    """Serves `health` over HTTP in a background thread while in a `with` block."""

    def __init__(self, health: Vitals[CommonMetrics], settings: HttpSettings) -> None:
        self._server = listen(settings, _handler(health, settings))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._server.server_port

    def __enter__(self) -> HealthServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def listen(settings: HttpSettings, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """A server that has its port, and does not serve yet.

    Raises:
        ConfigError: the port is taken, or the host is none of this machine's.
    """
    try:
        return ThreadingHTTPServer((settings.host, settings.port), handler)
    except OSError as error:
        raise ConfigError(
            f"http: cannot listen on {settings.host}:{settings.port} ({error.strerror}); "
            "set another http.port, or 'http: null' for none"
        ) from error


def _handler(health: Vitals[CommonMetrics], settings: HttpSettings) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, CONTENT_TYPE, health.metrics.text())
            elif path == "/healthz":
                stalled = health.stalled_s() > settings.stalled_after_s
                status = f"no progress for {health.stalled_s():.0f} s" if stalled else "alive"
                self._json(503 if stalled else 200, {"status": status, "parts": health.states()})
            elif path == "/readyz":
                lacks = health.lacks()
                ready = lacks is None
                self._json(200 if ready else 503, {"ready": ready, "lacks": lacks, "parts": health.states()})
            else:
                self._json(404, {"error": "known here: /metrics, /healthz, /readyz"})

        def _json(self, status: int, document: dict[str, object]) -> None:
            self._answer(status, "application/json", json.dumps(document).encode())

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Requests are not worth a log line."""

    return Handler
