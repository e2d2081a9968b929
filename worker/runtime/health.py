"""What the outside may know of the worker: Prometheus metrics, `/healthz`, `/readyz`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.settings.worker import HttpSettings

_LATENCY_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5.0, 30.0)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
_CAMERAS = 1000  # counted apart; whoever may publish frames may make up names, and each would stay in memory


class Health:
    """The worker's counters and states. Thread-safe.

    `states` are named findings such as {"bank": "ok", "bank store": "unreachable since ..."}; anything but "ok" is
    shown in `/healthz`, which stays green: a worker that still scores must not be restarted for it. It turns red when
    the worker neither finishes a batch nor finds that no frame waits.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.frames = Counter(
            "quarterturn_frames", "Frames inspected, by outcome", ["camera", "outcome"], registry=self.registry
        )
        self.dead_letters = Counter(
            "quarterturn_dead_letters", "Frames that could not be inspected", ["reason"], registry=self.registry
        )
        self.latency = Histogram(
            "quarterturn_latency_seconds", "From poll to delivery", buckets=_LATENCY_BUCKETS_S, registry=self.registry
        )
        self.batch = Histogram(
            "quarterturn_batch_frames", "Frames in a batch", buckets=_BATCH_BUCKETS, registry=self.registry
        )
        self.rewinds = Counter("quarterturn_rewinds", "Deliveries taken back and polled again", registry=self.registry)
        self.bank_swaps = Counter("quarterturn_bank_swaps", "Banks taken into service", registry=self.registry)
        self.bank = Info("quarterturn_bank", "The bank in service", registry=self.registry)
        self.degraded = Gauge(
            "quarterturn_degraded", "1 while this part does not work as it should", ["part"], registry=self.registry
        )
        self.ready = False
        self._progress_s = 0.0
        self._states: dict[str, Callable[[], str]] = {}
        self._cameras: set[str] = set()

    def count_frame(self, camera: str | None, outcome: str) -> None:
        """Count a frame of `camera` (None: it did not say). Cameras beyond the thousandth are "other"."""
        if camera and len(self._cameras) < _CAMERAS:
            self._cameras.add(camera)
        known = camera if camera in self._cameras else "other"
        self.frames.labels(known if camera else "unknown", outcome).inc()

    def progress(self) -> None:
        """Say that the worker goes on: it finished a batch, or found nothing to do."""
        self._progress_s = time.monotonic()

    def stalled_s(self) -> float:
        """Seconds since the last progress; 0 before and after the work."""
        return time.monotonic() - self._progress_s if self.ready else 0.0

    def watch(self, part: str, state: Callable[[], str]) -> None:
        """Show the state of `part` from now on; "ok" is the one good state."""
        self._states[part] = state
        self.degraded.labels(part).set_function(lambda: float(state() != "ok"))

    def states(self) -> dict[str, str]:
        """The present state of every part."""
        return {part: state() for part, state in self._states.items()}


class HealthServer:
    """Serves `health` over HTTP in a background thread while in a `with` block."""

    def __init__(self, health: Health, settings: HttpSettings) -> None:
        try:
            self._server = ThreadingHTTPServer((settings.host, settings.port), _handler(health, settings))
        except OSError as error:
            raise ConfigError(
                f"http: cannot listen on {settings.host}:{settings.port} ({error.strerror}); "
                "set another http.port, or 'http: null' for none"
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

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


def _handler(health: Health, settings: HttpSettings) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(health.registry))
            elif path == "/healthz":
                stalled = health.stalled_s() > settings.stalled_after_s
                status = f"no progress for {health.stalled_s():.0f} s" if stalled else "alive"
                self._json(503 if stalled else 200, {"status": status, "parts": health.states()})
            elif path == "/readyz":
                self._json(200 if health.ready else 503, {"ready": health.ready, "parts": health.states()})
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
