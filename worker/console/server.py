"""The console as one thing: index, followers and page together. The one file that knows uvicorn."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, closing
from types import TracebackType

import uvicorn

from quarterturn.worker.console.explaining import Explaining
from quarterturn.worker.console.follow import Follower
from quarterturn.worker.console.guard import Guard
from quarterturn.worker.console.index import Index
from quarterturn.worker.console.judging import Judging
from quarterturn.worker.console.pictures import Pictures
from quarterturn.worker.console.reviewers import Reviewers
from quarterturn.worker.console.standing import Standing
from quarterturn.worker.console.summary import Summary
from quarterturn.worker.console.web import Parts, app_of
from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.runtime.assemble import open_store
from quarterturn.worker.settings.worker import WorkerSettings

_LEAVE_S = 2.0  # for answers under way when it ends


class ConsoleServer:
    """Serves the page of a line while in a `with` block.

    Raises:
        ConfigError: frames do not come from Kafka, the address is taken, a token is missing or too short.
        DataError: the folder of the index cannot be written.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings, self._console = settings, settings.console
        self._kafka = settings.require_kafka("the console reads the topics of Kafka")
        self._reviewers = Reviewers(self._console.reviewers)
        self._stack = ExitStack()
        self._socket = self._listen()

    @property
    def url(self) -> str:
        """Where the page is."""
        scheme = "https" if self._console.certificate else "http"
        host = f"[{self._console.host}]" if ":" in self._console.host else self._console.host
        return f"{scheme}://{host}:{self._socket.getsockname()[1]}"

    def __enter__(self) -> ConsoleServer:
        with ExitStack() as stack:
            stack.enter_context(self._socket)
            console, stopping = self._console, threading.Event()
            index = stack.enter_context(closing(Index(console.state, console.keep, console.keep_days)))
            store = stack.enter_context(closing(open_store(self._settings.bank)))
            standing = stack.enter_context(Standing(console.workers, store, self._settings.line))
            follower = stack.enter_context(Follower(self._kafka, index, console.keep))
            pictures = stack.enter_context(closing(Pictures(self._kafka, self._settings.cameras)))
            parts = Parts(
                index=index,
                summary=Summary(self._settings.line, index, follower, standing, judging=len(self._reviewers) > 0),
                pictures=pictures,
                explaining=stack.enter_context(closing(Explaining(self._settings, store))),
                judging=stack.enter_context(closing(Judging(self._kafka, index, pictures))),
                reviewers=self._reviewers,
                guard=Guard(console, self._reviewers),
                secure=console.certificate is not None,
                stopping=stopping,
            )
            server = uvicorn.Server(self._config(parts))
            self._load(server.config)
            thread = threading.Thread(target=server.run, args=([self._socket],), name="console-http", daemon=True)

            def stop() -> None:
                stopping.set()
                server.should_exit = True
                thread.join(timeout=_LEAVE_S + 1)

            thread.start()
            stack.callback(stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def _config(self, parts: Parts) -> uvicorn.Config:
        return uvicorn.Config(
            app_of(parts),
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(_LEAVE_S),
            ssl_certfile=self._console.certificate,
            ssl_keyfile=self._console.key,
        )

    def _load(self, config: uvicorn.Config) -> None:
        """Refuse a certificate here, where somebody listens, rather than in the server's thread."""
        try:
            config.load()
        except OSError as error:  # an SSLError, too
            raise ConfigError(
                f"console.certificate, console.key: cannot be used ({error.strerror or error}); correct the PEM files"
            ) from error

    def _listen(self) -> socket.socket:
        host, port = self._console.host, self._console.port
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, port), family=family)
        except OSError as error:
            raise ConfigError(
                f"console: cannot listen on {host}:{port} ({error.strerror}); set another console.port or console.host"
            ) from error
