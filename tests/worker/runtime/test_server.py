from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import pytest

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.runtime.health import Health
from quarterturn.worker.runtime.server import HealthServer
from quarterturn.worker.settings.worker import HttpSettings
from quarterturn.worker.transport.base import Standing
from quarterturn.worker.transport.memory import MemoryTransport
from tests.parts import NumpyEngine, bank_of


def get(server: HealthServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def inspector() -> Iterator[Inspector]:
    with closing(Inspector(NumpyEngine(), "line-1", overkill=0.05)) as inspector:
        yield inspector


class Shared(MemoryTransport):
    """Stands as it is told to."""

    standing = Standing("Kafka", "waiting for the group 'g'")


def test_ready_only_with_work_and_a_bank_and_the_transports_consent(inspector: Inspector) -> None:
    health, transport = Health(), Shared([])
    with HealthServer(health, HttpSettings(port=0)) as server:

        def readyz() -> tuple[int, object]:
            status, body = get(server, "/readyz")
            answer = json.loads(body)
            assert answer["ready"] is (status == 200)
            assert f"quarterturn_ready {float(status == 200)}" in get(server, "/metrics")[1]
            return status, answer["lacks"]

        assert readyz() == (503, "the worker does not run")
        with health.working(transport, inspector):
            assert readyz() == (503, "no bank is in service")
            inspector.use(bank_of(NumpyEngine(), count=60))
            assert readyz() == (503, "waiting for the group 'g'")
            transport.standing = Standing("Kafka", "ok", assigned=2)
            assert readyz() == (200, None)
            transport.standing = Standing("Kafka", "ok", assigned=0)  # it stands by, for a worker that ends
            assert readyz() == (200, None)
            transport.standing = Standing("Kafka", "no answer for 6 s", assigned=2)
            assert readyz() == (503, "no answer for 6 s")
            transport.standing = Standing("Kafka", "ok", assigned=2)
            assert readyz() == (200, None)
        assert readyz() == (503, "the worker does not run")


def test_a_transport_that_says_nothing_of_itself_is_ready(inspector: Inspector) -> None:
    class Plain:
        exhausted = False

    inspector.use(bank_of(NumpyEngine(), count=60))
    health = Health()
    with health.working(Plain(), inspector), HealthServer(health, HttpSettings(port=0)) as server:  # type: ignore[arg-type]
        assert get(server, "/readyz") == (200, json.dumps({"ready": True, "lacks": None, "parts": {}}))


def test_a_part_that_is_degraded_shows_and_restarts_nobody(inspector: Inspector) -> None:
    health, transport = Health(), Shared([])
    store = "ok"
    health.watch("bank store", lambda: store)
    with HealthServer(health, HttpSettings(port=0)) as server, health.working(transport, inspector):
        transport.standing = Standing("Kafka", "no answer for 6 s")
        for store in ("ok", "unreachable since 12:00"):
            parts = {"bank store": store, "Kafka": "no answer for 6 s"}
            assert get(server, "/healthz") == (200, json.dumps({"status": "alive", "parts": parts}))
            metrics = get(server, "/metrics")[1]
            assert f'quarterturn_degraded{{part="bank store"}} {float(store != "ok")}' in metrics
            assert 'quarterturn_degraded{part="Kafka"} 1.0' in metrics
        assert get(server, "/nothing")[0] == 404


def test_health_turns_red_without_progress_and_green_with_it(inspector: Inspector) -> None:
    health = Health()
    with HealthServer(health, HttpSettings(port=0, stalled_after_s=0.05)) as server:
        time.sleep(0.06)
        assert get(server, "/healthz")[0] == 200  # it has not begun
        with health.working(MemoryTransport([]), inspector):
            while (answer := get(server, "/healthz"))[0] == 200:
                assert health.stalled_s() < 5
            assert (answer[0], json.loads(answer[1])["status"]) == (503, "no progress for 0 s")
            health.progress()
            assert health.stalled_s() < 0.05
        assert get(server, "/healthz")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_nothing_can_be_changed_over_http(method: str, path: str) -> None:
    with HealthServer(Health(), HttpSettings(port=0)) as server:
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", b"x", method=method)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=5)
        caught.value.close()
        assert caught.value.code == 501


def test_only_this_machine_is_listened_to_unless_told() -> None:
    assert HttpSettings().host == "127.0.0.1"


def test_a_taken_port_is_one_sentence() -> None:
    with (
        HealthServer(Health(), HttpSettings(port=0)) as server,
        pytest.raises(ConfigError, match=rf"http: cannot listen on 127.0.0.1:{server.port} .* http.port"),
    ):
        HealthServer(Health(), HttpSettings(port=server.port))
