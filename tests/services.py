"""Real services for tests: one Apache Kafka broker (KRaft) and one redis-server, on free ports, data thrown away.

The fixtures `kafka_bootstrap` and `redis_url` use this; so does the command line, for anything that needs both:

    python -m tests.services run -- COMMAND ...

runs COMMAND with KAFKA_BOOTSTRAP_SERVERS and REDIS_URL set. Where one of these is set already, that server is used
and none is started. As root on Debian or Ubuntu, missing programs are installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

KAFKA_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"
REDIS_VARIABLE = "REDIS_URL"

_POM = Path(__file__).with_name("kafka-pom.xml")
DOWNLOADS = Path(__file__).parents[1] / ".services"
_START_S = 90.0
_JAVA_OPTIONS = "-Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
_JAVA_VERSION = 17
_JAVA_PACKAGES = ("openjdk-21-jre-headless", "openjdk-17-jre-headless")  # no Debian or Ubuntu in support lacks both
_CLUSTER = "quarterturn-tests-AAAA"  # 16 bytes in base64

_BROKER_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
log.dirs={data}
message.max.bytes=33554432
auto.create.topics.enable=false
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
group.min.session.timeout.ms=1000
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"""

_SOON = "transaction.abort.timed.out.transaction.cleanup.interval.ms=2500"
"""What a dead worker left open ends within 2.5 s of its time, not 10: for brokers that nobody kills (docs/kafka.md)."""


class ServiceError(Exception):
    """A service cannot be started; the text says what to install or which variable to set."""


Server = TypeVar("Server", "Broker", "RedisServer")


class Broker:
    """A Kafka broker of our own. Its data and address outlive `kill`, so that `start` brings the same one back.

    `properties` overrule those of the plain broker, `format_options` are for the first formatting of its data.
    """

    def __init__(self, folder: Path, properties: str = "", format_options: Sequence[str] = ()) -> None:
        self._log = folder / "broker.log"
        self.data = folder / "data"
        self._port, controller = free_ports(2)
        self.bootstrap = f"127.0.0.1:{self._port}"
        server = folder / "server.properties"
        ours = _BROKER_PROPERTIES.format(port=self._port, controller=controller, data=self.data)
        server.write_text(ours + properties.format(port=self._port, controller=controller), encoding="utf-8")
        java = ("java", *_JAVA_OPTIONS.split(), f"-Djava.io.tmpdir={folder}", "-cp", f"{_kafka_jars()}/*")
        where = ("--standalone", "-t", _CLUSTER, "-c", str(server))
        run(*java, "kafka.tools.StorageTool", "format", *where, *format_options)
        self._command = (*java, "kafka.Kafka", str(server))

    def start(self) -> None:
        """Return when the broker answers.

        Raises:
            ServiceError: it does not; the text ends with its log.
        """
        self._process = start(self._command, self._log, self._port, self._answers)

    @property
    def pid(self) -> int:
        """The broker's process, while it runs."""
        return self._process.pid

    def kill(self) -> None:
        """End it as a power cut would."""
        end(self._process)

    def freeze(self) -> None:
        """Let it keep its connections and answer nothing, until `thaw`."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            return bool(
                AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 2}).list_topics(timeout=5).brokers
            )
        except KafkaException:
            return False


class RedisServer:
    """A Redis of our own that keeps nothing: after `kill`, `start` brings up an empty one at the same address."""

    def __init__(self, folder: Path) -> None:
        (self._port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._log = folder / "redis.log"
        listen = ("--port", str(self._port), "--bind", "127.0.0.1")
        self._command = ("redis-server", *listen, "--save", "", "--dir", str(folder))

    def start(self) -> None:
        """Return when the server answers.

        Raises:
            ServiceError: it does not; the text ends with its log.
        """
        self._process = start(self._command, self._log, self._port, lambda: _redis_answers(self.url))

    def kill(self) -> None:
        """End it as a power cut would."""
        end(self._process)


def broker(properties: str = "") -> contextlib.AbstractContextManager[Broker]:
    """A broker of our own that runs, even where KAFKA_BOOTSTRAP_SERVERS names another; `properties` as in Broker.

    Raises:
        ServiceError: it cannot be started.
    """
    return _running("kafka", install_kafka, partial(Broker, properties=properties))


def own_redis() -> contextlib.AbstractContextManager[RedisServer]:
    """A Redis of our own that runs, even where REDIS_URL names another.

    Raises:
        ServiceError: it cannot be started.
    """
    return _running("redis", install_redis, RedisServer)


@contextlib.contextmanager
def _running(name: str, install: Callable[[], None], make: Callable[[Path], Server]) -> Iterator[Server]:
    install()
    with folder_for(name) as folder:
        own = make(folder)
        own.start()
        try:
            yield own
        finally:
            own.kill()


@contextlib.contextmanager
def kafka() -> Iterator[str]:
    """The bootstrap servers of a real Kafka: those of KAFKA_BOOTSTRAP_SERVERS, or of a broker of our own.

    Raises:
        ServiceError: the broker cannot be started.
    """
    if given := os.environ.get(KAFKA_VARIABLE):
        yield given
        return
    with broker(_SOON) as own:
        yield own.bootstrap


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a real Redis: that of REDIS_URL, or of a server of our own.

    Raises:
        ServiceError: the server cannot be started.
    """
    if given := os.environ.get(REDIS_VARIABLE):
        yield given
        return
    with own_redis() as own:
        yield own.url


def install_redis() -> None:
    """Install redis-server where it is missing.

    Raises:
        ServiceError: it cannot be installed here; says what to do by hand.
    """
    if not os.environ.get(REDIS_VARIABLE):
        need(shutil.which("redis-server") is not None, "redis-server", ("redis-server",), REDIS_VARIABLE)


def install_kafka() -> None:
    """Install Java and Maven where they are missing, and fetch the broker's jars.

    Raises:
        ServiceError: they cannot be installed here; says what to do by hand.
    """
    if not os.environ.get(KAFKA_VARIABLE):
        need(_java_version() >= _JAVA_VERSION, f"Java {_JAVA_VERSION} or newer", _JAVA_PACKAGES, KAFKA_VARIABLE)
        _kafka_jars()


def install_chromium() -> str:
    """Where Debian's chromium is; installed where it is missing.

    Raises:
        ServiceError: it cannot be installed here; says what to do by hand.
    """
    need(shutil.which("chromium") is not None, "Chromium", ("chromium",))
    found = shutil.which("chromium")
    if found is None:
        raise ServiceError("Chromium is missing: install it (apt-get install chromium)")
    return found


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait until no other process of this checkout's tests installs or downloads anything."""
    DOWNLOADS.mkdir(exist_ok=True)
    with (DOWNLOADS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def need(is_there: bool, what: str, packages: tuple[str, ...], variable: str | None = None) -> None:
    """Install the first of `packages` that this system knows, unless `what` is there already.

    Raises:
        ServiceError: it cannot be installed here; says what to do by hand.
    """
    if is_there:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        otherwise = f", or set {variable} to a running server" if variable else ""
        raise ServiceError(f"{what} is missing: install it (apt-get install {packages[-1]}){otherwise}")
    run("apt-get", "update", "-qq")
    known = [package for package in packages if _output("apt-cache", "show", package)]
    run("apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-qq", "-y", "--no-install-recommends", *known[:1])


def _java_version() -> int:
    if not shutil.which("java"):
        return 0
    version = re.search(r"\d+", _output("java", "--version"))  # openjdk 17.0.15 2025-04-15; Java 8 knows no --version
    return int(version.group()) if version else 0


def _kafka_jars() -> Path:
    """The folder with the broker's jars, fetched from Maven Central once for each content of the pom."""
    jars = DOWNLOADS / f"kafka-{hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]}"
    if not jars.is_dir():
        need(shutil.which("mvn") is not None, "Maven", ("maven",), KAFKA_VARIABLE)
        DOWNLOADS.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=DOWNLOADS) as temporary:
            lib = Path(temporary, "lib")
            run("mvn", "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={lib}")
            with contextlib.suppress(OSError):  # another test run was faster
                lib.rename(jars)
    return jars


def run(*command: str) -> None:
    """Run `command`.

    Raises:
        ServiceError: it failed; the text ends with what it said.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, check=False
    )
    if done.returncode:
        raise ServiceError(f"'{' '.join(command)}' failed with {done.returncode}:\n{done.stdout[-3000:]}")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@contextlib.contextmanager
def folder_for(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"quarterturn-{name}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that Linux gives to outgoing connections (32768 and up).

    So no connection takes one before its server does, and a Redis of a cluster finds its second port, 10,000 higher.
    """
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            port = random.SystemRandom().randrange(10_000, 22_000)
            opened = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                opened.bind(("127.0.0.1", port))
                found.append(port)
        return found


def start(command: tuple[str, ...], log: Path, port: int, answers: Callable[[], bool]) -> subprocess.Popen[bytes]:
    """Run `command` in the background; return when `port` is open and the server answers."""
    # setpriv: a test run that is killed takes its servers along.
    tied = ("setpriv", "--pdeathsig", "KILL", *command) if shutil.which("setpriv") else command
    with log.open("ab") as output:
        process = subprocess.Popen(tied, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    deadline = time.monotonic() + _START_S
    while not (_is_open(port) and answers()):
        if process.poll() is not None or time.monotonic() > deadline:
            end(process)
            tail = log.read_text(errors="replace")[-3000:]
            raise ServiceError(
                f"{command[0]} did not start (exit code {process.returncode}); its log ends with:\n{tail}"
            )
        time.sleep(0.05)
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # there is nothing to save: the data is thrown away
    process.wait()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _redis_answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def main(arguments: list[str]) -> int:
    """`run -- COMMAND ...`: run COMMAND beside both services and return its exit code."""
    if arguments[:2] != ["run", "--"] or len(arguments) < 3:
        sys.stderr.write("usage: python -m tests.services run -- COMMAND ...\n")
        return 2
    try:
        with kafka() as bootstrap, redis_server() as url:
            environment = {**os.environ, KAFKA_VARIABLE: bootstrap, REDIS_VARIABLE: url}
            return subprocess.run(arguments[2:], env=environment, check=False).returncode
    except ServiceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
