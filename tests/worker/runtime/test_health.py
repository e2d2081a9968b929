from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

import pytest

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.runtime.health import Health, HealthServer
from quarterturn.worker.settings.worker import HttpSettings


def get(server: HealthServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_endpoints() -> None:
    health = Health()
    store = "ok"
    health.watch("bank store", lambda: store)
    health.frames.labels("top-01", "good").inc(3)
    with HealthServer(health, HttpSettings(port=0)) as server:
        assert get(server, "/healthz") == (200, json.dumps({"status": "alive", "parts": {"bank store": "ok"}}))
        assert get(server, "/readyz")[0] == 503
        health.ready = True
        store = "unreachable since 12:00"
        assert get(server, "/readyz") == (
            200,
            json.dumps({"ready": True, "parts": {"bank store": "unreachable since 12:00"}}),
        )
        metrics = get(server, "/metrics")[1]
        assert 'quarterturn_frames_total{camera="top-01",outcome="good"} 3.0' in metrics
        assert 'quarterturn_degraded{part="bank store"} 1.0' in metrics
        assert get(server, "/nothing")[0] == 404


def test_health_turns_red_without_progress_and_green_with_it() -> None:
    health = Health()
    with HealthServer(health, HttpSettings(port=0, stalled_after_s=0.05)) as server:
        time.sleep(0.06)
        assert get(server, "/healthz")[0] == 200  # it has not begun
        health.ready = True
        health.progress()
        while (answer := get(server, "/healthz"))[0] == 200:
            assert health.stalled_s() < 5
        assert (answer[0], json.loads(answer[1])["status"]) == (503, "no progress for 0 s")
        health.progress()
        assert health.stalled_s() < 0.05
        health.ready = False
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
