"""Fixtures for every test: the real services, started once per run when the first test asks for them."""

from __future__ import annotations

import contextlib
import gc
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from playwright.sync_api import Browser, sync_playwright

from quarterturn.worker.settings.worker import Topics
from tests import bindings, services
from tests.lines import MadeLine, make_line

CreateTopics = Callable[[int], Topics]

SERVERS = {"kafka_bootstrap", "redis_url", "vendor_bindings", "broker", "chromium", "kafka", "secured"}
"""Fixtures that start a server, or fetch what they need."""
SLOW = (
    "benchmarks",
    "end_to_end",
    "engine_build/test_build.py",
    "engine_build/test_export.py",
    "engine_build/test_tensorrt.py",
    "fuzz",
    "test_package.py",
    "trainer/test_encoder.py",
    "trainer/test_train.py",
    "worker/inspection/test_inspector.py",
)
"""Folders and files that take longer than `make quick` has; so does all that has a time limit of its own."""


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors, but two habits of kafka-python are not ours to correct."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # In the background programs ignore Ctrl-C from birth, and so would all that the tests start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # It leaves sockets to the garbage collector, which may find them while anybody's code runs,
    config.addinivalue_line("filterwarnings", "ignore:unclosed <tests.conftest.KafkaSocket:ResourceWarning")
    # also those of refused logins.
    config.addinivalue_line("filterwarnings", "ignore:unclosed <ssl.SSLSocket:ResourceWarning")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server and what is slow, so that `make quick` can leave it out."""
    slow = [Path(__file__).parent / place for place in SLOW]
    assert all(place.exists() for place in slow), "SLOW names what is no longer there"
    for item in items:
        if _needs_server(item):
            item.add_marker("server")
        if item.get_closest_marker("timeout") or not {item.path, *item.path.parents}.isdisjoint(slow):
            item.add_marker("slow")


def _needs_server(item: pytest.Item) -> bool:
    """By its fixtures, or by the parameter of one that starts what the parameter names, such as `redis`."""
    names = set(getattr(item, "fixturenames", ()))
    values = item.callspec.params.values() if "request" in names and hasattr(item, "callspec") else ()
    return bool(names & SERVERS) or any(isinstance(one, str) and one.startswith(("kafka", "redis")) for one in values)


def pytest_sessionfinish() -> None:
    """Collect those sockets while the filters above still hold."""
    gc.collect()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install the services before the first test, so that no test's time limit covers a download."""
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    installs: dict[str, Callable[[], object]] = {
        "kafka_bootstrap": services.install_kafka,
        "broker": services.install_kafka,
        "redis_url": services.install_redis,
        "vendor_bindings": bindings.install,
        "chromium": services.install_chromium,
    }
    with services.alone():
        for fixture, install in installs.items():
            if fixture in wanted:
                with contextlib.suppress(services.ServiceError):  # the fixture says it again, as a failed test
                    install()


class KafkaSocket(socket.socket):
    """A socket of kafka-python's: its warnings say whose it is."""


def _socketpair() -> list[KafkaSocket]:
    return [KafkaSocket(fileno=one.detach()) for one in socket.socketpair()]


@pytest.fixture(scope="session", autouse=True)
def kafka_sockets() -> Iterator[None]:
    """Have kafka-python open sockets that the filter above knows."""
    from kafka.net import inet, selector  # what it does while it is read is forgiven from here on

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inet.KafkaNetSocket, "socket", lambda _, *how: KafkaSocket(*how))
        patch.setattr(selector, "socket", SimpleNamespace(socketpair=_socketpair))
        yield


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """`host:port` of a real Kafka."""
    try:
        with services.kafka() as bootstrap:
            yield bootstrap
    except services.ServiceError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def broker() -> Iterator[services.Broker]:
    """A broker that a test may kill or freeze, if it starts or thaws it again; its topics have names of the test."""
    try:
        with services.broker() as own:
            yield own
    except services.ServiceError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """URL of a real Redis."""
    try:
        with services.redis_server() as url:
            yield url
    except services.ServiceError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A real Chromium."""
    try:
        path = services.install_chromium()
    except services.ServiceError as error:
        pytest.fail(str(error), pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])  # CI runs as root
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> MadeLine:
    """A whole line, made once per run."""
    return make_line(tmp_path_factory.mktemp("line"))


@pytest.fixture(scope="session")
def vendor_bindings() -> None:
    """The real bindings of TensorRT and CUDA are there."""
    try:
        bindings.install()
    except services.ServiceError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def create_topics(kafka_bootstrap: str) -> CreateTopics:
    """`create_topics(n)` makes the topics of a line under new names, the frames topic with n partitions."""
    return topics_at(kafka_bootstrap)


def topics_at(bootstrap: str) -> CreateTopics:
    """`create_topics` of another broker."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})

    def create(partitions: int = 1) -> Topics:
        suffix = uuid.uuid4().hex[:8]
        topics = Topics(**{kind: f"{name}-{suffix}" for kind, name in Topics().model_dump().items()})
        counts = dict.fromkeys(topics.model_dump().values(), 1) | {topics.frames: partitions}
        new = [NewTopic(name, count) for name, count in counts.items()]
        for created in admin.create_topics(new).values():
            created.result(timeout=30)
        while not all(admin.list_topics(name, timeout=10).topics[name].partitions for name in counts):
            pass  # accepted by the controller, but the broker does not know it yet
        return topics

    return create
