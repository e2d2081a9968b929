"""Redis servers of every kind: real ones with options of their own, one that answers by rote, one that falls silent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from tests import services


@contextmanager
def real(folder: Path, *options: str, **reach: str) -> Iterator[int]:
    """The port of a redis-server with `options`; `reach` is how to ask whether it is there."""
    services.install_redis()
    (port,) = services.free_ports(1)
    folder.mkdir(parents=True, exist_ok=True)
    command = ("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *options)

    def answers() -> bool:
        try:
            with redis.Redis(port=port, **reach) as client:  # type: ignore[call-overload]
                return bool(client.ping())
        except redis.ResponseError:
            return True
        except redis.RedisError:
            return False

    process = services.start(command, folder / "redis.log", port, answers)
    try:
        yield port
    finally:
        services.end(process)


@contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that does as `talk` says with each connection, on a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        opened: list[socket.socket] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    opened.append(connection)
                    threading.Thread(target=run, args=(connection,), daemon=True).start()

        def run(connection: socket.socket) -> None:
            with suppress(OSError):
                talk(connection)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield int(server.getsockname()[1])
        finally:
            for connection in opened:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()
            server.shutdown(socket.SHUT_RDWR)


def by_rote(answer: bytes) -> Callable[[socket.socket], None]:
    """Answers every command with `answer`."""

    def talk(connection: socket.socket) -> None:
        while data := connection.recv(2**16):
            connection.sendall(answer * data.count(b"*"))  # each is a list of strings, without another star

    return talk


def never(_: socket.socket) -> None:
    """Takes the connection, and nothing more."""


def silent_after(port: int, sent: int, reads_on: bool) -> Callable[[socket.socket], None]:
    """Passes everything to and from the server at `port`, until `sent` bytes came; then it reads at most."""

    def talk(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as server:
            threading.Thread(target=back, args=(server, connection), daemon=True).start()
            left = sent
            while left > 0 and (data := connection.recv(min(left, 2**16))):
                server.sendall(data)
                left -= len(data)
            speaks.clear()
            while reads_on and connection.recv(2**16):
                pass
            threading.Event().wait(60)

    def back(server: socket.socket, connection: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(2**16):
                if speaks.is_set():
                    connection.sendall(data)

    speaks = threading.Event()
    speaks.set()
    return talk
