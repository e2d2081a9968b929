"""Receivers of results: a real MQTT broker and a real PostgreSQL, on free ports, data thrown away."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.services import end, free_ports, need, run, start

_SYSTEM = f"{os.environ['PATH']}:/usr/sbin"
# PostgreSQL refuses to run as root.
_OTHER = ("nobody", "nogroup")
_AS_OTHER = (
    ("setpriv", f"--reuid={_OTHER[0]}", f"--regid={_OTHER[1]}", "--clear-groups", "--pdeathsig", "KILL")
    if os.geteuid() == 0
    else ()
)


class Mosquitto:
    """An MQTT broker of our own. After `kill`, `start` brings one back that has forgotten everything.

    `settings` are further lines of its configuration.
    """

    def __init__(self, folder: Path, settings: str = "allow_anonymous true") -> None:
        need(shutil.which("mosquitto", path=_SYSTEM) is not None, "mosquitto", ("mosquitto",))
        need(shutil.which("mosquitto_sub") is not None, "mosquitto_sub", ("mosquitto-clients",))
        (self.port,) = free_ports(1)
        self.address = f"127.0.0.1:{self.port}"
        self._log = folder / "mosquitto.log"
        file = folder / "mosquitto.conf"
        # As root it would become another user, who cannot read our files.
        file.write_text(f"listener {self.port} 127.0.0.1\nuser root\n{settings}\n", encoding="utf-8")
        program = shutil.which("mosquitto", path=_SYSTEM)
        assert program is not None
        self._command = (program, "-c", str(file))

    def start(self) -> None:
        self._process = start(self._command, self._log, self.port, lambda: True)

    def kill(self) -> None:
        """End it as a power cut would."""
        end(self._process)

    def reload(self) -> None:
        """Let it read its files of permissions anew."""
        self._process.send_signal(signal.SIGHUP)


class Postgres:
    """A PostgreSQL of our own, with the user and database `plant`; its data outlives `kill`."""

    def __init__(self, folder: Path) -> None:
        binaries = _postgres_binaries()
        need(bool(binaries), "PostgreSQL", ("postgresql",))
        binaries = binaries or _postgres_binaries()
        (self._port,) = free_ports(1)
        self.url = f"postgresql://plant@127.0.0.1:{self._port}/postgres"
        self._log, data = folder / "postgres.log", folder / "data"
        data.mkdir()
        if _AS_OTHER:
            for one in (folder, data):
                shutil.chown(one, *_OTHER)
        run(*_AS_OTHER, f"{binaries}/initdb", "-U", "plant", "-A", "trust", "--no-sync", "-E", "UTF8", str(data))
        where = ("-D", str(data), "-p", str(self._port), "-h", "127.0.0.1", "-k", str(folder), "-F")
        self._command = (*_AS_OTHER, f"{binaries}/postgres", *where)

    def start(self) -> None:
        """Return when it takes questions."""
        self._process = start(self._command, self._log, self._port, self._answers)

    def kill(self) -> None:
        """End it at once, with what it is doing."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def _answers(self) -> bool:
        ready = [f"{_postgres_binaries()}/pg_isready", "-q", "-d", self.url]
        return subprocess.run(ready, check=False).returncode == 0


def _postgres_binaries() -> Path | None:
    """The folder of the newest PostgreSQL that is installed; Debian keeps it off the PATH."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda one: int(one.parent.name))
