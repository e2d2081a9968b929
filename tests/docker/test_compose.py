"""The compose files fit the worker's own settings: hosts, topics, sizes, folders and deadlines."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from quarterturn.worker.contract.settings import load_settings
from quarterturn.worker.settings.worker import KafkaSettings, RedisStoreSettings, WorkerSettings

ROOT = Path(__file__).parents[2]
FILES = {
    "cpu": ["compose.yaml"],
    "gpu": ["compose.yaml", "compose.gpu.yaml"],
    "jetson": ["compose.yaml", "compose.jetson.yaml"],
}
COMPOSE = ROOT / "docker" / "compose.yaml"


def merged(under: Any, over: Any) -> Any:
    """As Compose merges: sections key by key, lists one behind the other, else the later value."""
    if isinstance(under, dict) and isinstance(over, dict):
        return {key: merged(under.get(key), over.get(key)) for key in under | over}
    if isinstance(under, list) and isinstance(over, list):
        return under + over
    return under if over is None else over


@pytest.fixture(scope="module", params=FILES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def compose(machine: str) -> dict[str, Any]:
    """What `docker compose -f ... -f ...` makes of the files for one kind of machine."""
    documents = [yaml.safe_load((COMPOSE.parent / name).read_text()) for name in FILES[machine]]
    document: dict[str, Any] = functools.reduce(merged, documents)
    return document


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


@pytest.fixture(scope="module")
def settings(services: dict[str, Any]) -> WorkerSettings:
    """What the worker's container runs with: the shipped file and the overrides of its command."""
    run, config, *overrides = services["worker"]["command"]
    assert run == "run"
    path = config.removeprefix("--config=")
    return load_settings(ROOT / path, WorkerSettings, [each.removeprefix("--set=") for each in overrides])


@pytest.fixture(scope="module")
def kafka_settings(settings: WorkerSettings) -> KafkaSettings:
    assert settings.transport.kafka is not None
    return settings.transport.kafka


def listeners(text: str) -> dict[str, str]:
    return dict(each.split("://") for each in text.split(","))


def test_the_worker_finds_kafka_and_redis_by_their_service_names(
    services: dict[str, Any], settings: WorkerSettings, kafka_settings: KafkaSettings
) -> None:
    advertised = listeners(services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"])
    assert advertised["INSIDE"] == kafka_settings.bootstrap_servers == "kafka:9092"
    assert isinstance(settings.bank.redis, RedisStoreSettings)
    assert settings.bank.redis.url == "redis://redis:6379/0"
    assert set(services["worker"]["depends_on"]) == {"kafka", "redis", "topics"}


def test_the_shipped_settings_reach_the_same_services_from_the_host(services: dict[str, Any]) -> None:
    """Banks are pushed and frames published from the host with configs/worker.yaml as it is."""
    shipped = load_settings(ROOT / "configs" / "worker.yaml", WorkerSettings)
    assert shipped.transport.kafka is not None
    assert shipped.bank.redis is not None
    environment = services["kafka"]["environment"]
    outside = listeners(environment["KAFKA_LISTENERS"])["OUTSIDE"].removeprefix(":")
    host, port = shipped.transport.kafka.bootstrap_servers.split(":")
    assert listeners(environment["KAFKA_ADVERTISED_LISTENERS"])["OUTSIDE"] == f"{host}:{port}"
    assert services["kafka"]["ports"] == [f"127.0.0.1:{port}:{outside}"]
    assert shipped.bank.redis.url.startswith("redis://localhost:6379/")
    assert services["redis"]["ports"] == ["127.0.0.1:6379:6379"]


def test_every_topic_is_created_and_takes_the_largest_frame(
    services: dict[str, Any], kafka_settings: KafkaSettings
) -> None:
    (script,) = services["topics"]["command"]
    created = dict(re.findall(r"^create (\S+) (.*)$", script, flags=re.MULTILINE))
    assert set(created) == set(kafka_settings.topics.model_dump().values())
    (frame_bytes,) = re.findall(r"max\.message\.bytes=(\d+)", created[kafka_settings.topics.frames])
    assert int(frame_bytes) >= kafka_settings.max_frame_bytes
    assert "compression.type=uncompressed" in created[kafka_settings.topics.frames]
    assert "cleanup.policy=compact" in created[kafka_settings.topics.feedback]
    assert services["kafka"]["environment"]["KAFKA_MESSAGE_MAX_BYTES"] >= kafka_settings.max_frame_bytes


def test_no_port_is_open_to_the_network(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_worker_writes_nothing_but_its_state(services: dict[str, Any], settings: WorkerSettings) -> None:
    worker = services["worker"]
    assert worker["read_only"]
    assert worker["cap_drop"] == ["ALL"]
    mounts = {mount["target"]: mount for mount in worker["volumes"] if isinstance(mount, dict)}
    assert all(mount["read_only"] for mount in mounts.values())
    assert f"/app/{settings.engine.path}" in mounts
    assert settings.bank.redis is not None
    assert settings.bank.redis.snapshot is not None
    (state,) = (mount for mount in worker["volumes"] if isinstance(mount, str))
    assert state == f"state:/app/{settings.bank.redis.snapshot.parts[0]}"


def test_the_worker_is_given_longer_than_it_takes_to_drain(services: dict[str, Any], settings: WorkerSettings) -> None:
    grace = services["worker"]["stop_grace_period"]
    assert float(grace.removesuffix("s")) > settings.drain_s


def test_health_is_reachable_from_the_host(services: dict[str, Any], settings: WorkerSettings) -> None:
    assert settings.http is not None
    assert settings.http.host == "0.0.0.0"
    assert services["worker"]["ports"] == [f"127.0.0.1:{settings.http.port}:{settings.http.port}"]


def test_dependencies_are_waited_for_by_their_health(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], f"{name} waits for {needed}, which has no health check"


def test_images_are_pinned_and_volumes_declared(compose: dict[str, Any], services: dict[str, Any]) -> None:
    for name, service in services.items():
        if "build" not in service:
            assert re.search(r":\d+\.\d+\.\d+", service["image"]), name
    used = {v.split(":")[0] for s in services.values() for v in s.get("volumes", []) if isinstance(v, str)}
    assert used == set(compose["volumes"])


def test_the_image_is_built_from_the_repository_root(services: dict[str, Any], machine: str) -> None:
    build = services["worker"]["build"]
    assert services["worker"]["image"] == f"quarterturn-worker:{machine}"
    assert build["dockerfile"] == f"docker/Dockerfile.{machine}"
    context = (COMPOSE.parent / build["context"]).resolve()
    assert context == ROOT
    assert (context / build["dockerfile"]).is_file()


def test_the_worker_gets_the_gpu_and_nothing_else_changes() -> None:
    base, gpu, jetson = (yaml.safe_load((COMPOSE.parent / FILES[name][-1]).read_text())["services"] for name in FILES)
    assert set(gpu) == {"worker"}
    assert set(gpu["worker"]) == {"image", "build", "deploy"}
    (device,) = gpu["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert set(jetson) == {"kafka", "worker"}
    assert set(jetson["kafka"]) == {"environment"}
    assert not set(jetson["kafka"]["environment"]) & set(base["kafka"]["environment"])
    assert set(jetson["worker"]) == {"image", "build", "runtime", "group_add", "volumes"}
    assert jetson["worker"]["runtime"] == "nvidia"
    assert set(jetson["worker"]["build"]["args"]) == {"JETPACK"}


def test_compose_itself_takes_the_files(machine: str) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker's compose plugin is not installed")
    files = [argument for name in FILES[machine] for argument in ("-f", str(COMPOSE.with_name(name)))]
    environment = {**os.environ, "RENDER_GID": "104"}
    command = [docker, "compose", *files, "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
